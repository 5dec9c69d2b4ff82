"""Plots have the size that was asked for, one legend beside the data, and the numbers that they were given."""

import io
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from rxlm.reporting.plots import (
    DOTS_PER_INCH,
    PALETTE,
    bar_groups,
    heat_map,
    line_plot,
    log_scale,
    new_figure,
    new_panels,
    png_bytes,
    save_png,
    shades,
)


def picture(figure: Figure) -> Image.Image:
    return Image.open(io.BytesIO(png_bytes(figure)))


def test_a_png_has_the_size_of_its_figure_and_is_not_blank(tmp_path: Path) -> None:
    figure, axes = new_figure(5.0, 3.0)
    line_plot(axes, [1, 2, 3], [1, 4, 9])
    save_png(figure, tmp_path / "folder" / "plot.png")
    image = Image.open(tmp_path / "folder" / "plot.png")

    assert image.format == "PNG"
    assert image.size == (5 * DOTS_PER_INCH, 3 * DOTS_PER_INCH)
    assert len(set(image.convert("L").tobytes())) > 10
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["plot.png"]


def test_a_legend_stands_below_all_axes_and_takes_nothing_from_them() -> None:
    figure, panels = new_panels(["a", "b"], width=3, height=2)
    for axes in panels:
        line_plot(axes, [1, 2], [1, 2], "rising", color=PALETTE[0])
        line_plot(axes, [1, 2], [2, 1], "falling", color=PALETTE[1])
    image = picture(figure)
    (legend,) = figure.legends
    box = legend.get_window_extent()

    assert [text.get_text() for text in legend.get_texts()] == ["rising", "falling"]
    assert image.height > 2 * DOTS_PER_INCH
    assert all(box.y1 <= axes.get_tightbbox().y0 for axes in panels)
    assert 0 <= box.x0 < box.x1 <= image.width


@pytest.mark.parametrize("count", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("name", ["x", "a rather long name of a line"])
def test_a_legend_of_any_length_stays_within_the_figure(count: int, name: str) -> None:
    figure, axes = new_figure()
    for number in range(count):
        line_plot(axes, [0, 1], [number, number], f"{name} {number}")
    picture(figure)
    box, page = figure.legends[0].get_window_extent(), figure.bbox

    assert page.x0 <= box.x0 < box.x1 <= page.x1
    assert page.y0 <= box.y0 < box.y1 <= axes.get_tightbbox().y0


def test_a_figure_that_is_drawn_twice_grows_once() -> None:
    figure, axes = new_figure(2, 2)
    line_plot(axes, [1, 2], [1, 2], "line")

    assert picture(figure).size == picture(figure).size
    assert len(figure.legends) == 1


def test_without_labels_there_is_no_legend() -> None:
    figure, axes = new_figure(2, 2)
    line_plot(axes, [1, 2], [1, 2])

    assert picture(figure).size == (2 * DOTS_PER_INCH, 2 * DOTS_PER_INCH)
    assert figure.legends == []


def test_lines_without_a_colour_differ_beyond_the_palette() -> None:
    _, axes = new_figure()
    for number in range(3 * len(PALETTE)):
        line_plot(axes, [0, 1], [number, number])

    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 3 * len(PALETTE)


def test_a_band_lies_between_its_ends() -> None:
    _, axes = new_figure()
    line_plot(axes, [0, 1, 2], [1, 2, 3], band=([0, 1, 2], [2, 3, 4]))
    corners = axes.collections[0].get_paths()[0].vertices

    assert {tuple(point) for point in corners} == {(0, 0), (1, 1), (2, 2), (0, 2), (1, 3), (2, 4)}


@pytest.mark.parametrize(("points", "dots"), [(1, True), (24, True), (25, False)])
def test_few_points_are_dots_so_that_one_alone_is_seen(points: int, dots: bool) -> None:
    _, axes = new_figure()
    line_plot(axes, list(range(points)), list(range(points)))

    assert (axes.lines[0].get_marker() == "o") == dots


def test_a_heat_map_writes_each_number_into_its_cell_and_nothing_where_there_is_none() -> None:
    figure, axes = new_figure()
    heat_map(figure, axes, [[0.1, 0.2, 1.0], [0.5, math.nan, 0.0]], ["1", "2", "3"], ["few", "many"], low=0, high=1)
    picture(figure)
    cells = {text.get_position(): text.get_text() for text in axes.texts}

    assert cells == {(0, 0): "10%", (1, 0): "20%", (2, 0): "100%", (0, 1): "50%", (2, 1): "0%"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["few", "many"]


def test_numbers_in_a_heat_map_stand_out_from_their_cells() -> None:
    figure, axes = new_figure()
    heat_map(figure, axes, [np.linspace(0, 1, 21)], [str(place) for place in range(21)], [""])
    image = axes.images[0]
    for text in axes.texts:
        cell = image.cmap(image.norm(image.get_array()[0, int(text.get_position()[0])]))
        assert contrast(text.get_color(), cell[:3]) > 3


def contrast(one: str, other: tuple[float, ...]) -> float:
    """Return the contrast ratio of WCAG."""
    from matplotlib.colors import to_rgb

    def luminance(color: tuple[float, ...]) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(to_rgb(one)), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_heat_map_refuses_labels_that_do_not_fit() -> None:
    figure, axes = new_figure()
    with pytest.raises(ValueError, match=r"shape \(1, 2\); the labels are for \(1, 3\)"):
        heat_map(figure, axes, [[1, 2]], ["a", "b", "c"], ["d"])


@given(st.integers(1, 5), st.integers(1, 6))
def test_bars_have_their_heights_and_do_not_overlap(num_series: int, num_groups: int) -> None:
    _, axes = new_figure()
    heights = {f"s{row}": [row + column / 10 + 0.1 for column in range(num_groups)] for row in range(num_series)}
    bar_groups(axes, [f"g{column}" for column in range(num_groups)], heights)
    bars = [bar for container in axes.containers for bar in container]
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars)

    assert [bar.get_height() for bar in bars] == [height for row in heights.values() for height in row]
    assert all(right <= left for (_, right), (left, _) in pairwise(edges))


def test_errors_of_bars_are_the_ends_of_their_intervals() -> None:
    _, axes = new_figure()
    bar_groups(axes, ["a", "b"], {"x": [0.5, 0.7], "y": [0.1, 0.2]}, errors={"x": ([0.4, 0.7], [0.8, 0.75])})
    lines = axes.collections[0].get_segments()

    assert [list(line[:, 1]) for line in lines] == [pytest.approx([0.4, 0.8]), pytest.approx([0.7, 0.75])]


def test_bars_refuse_a_series_that_does_not_fit_the_groups() -> None:
    with pytest.raises(ValueError, match=r"series\['x'\] has 1 values; there are 2 groups"):
        bar_groups(new_figure()[1], ["a", "b"], {"x": [1.0]})


@pytest.mark.parametrize("values", [(0.02, 3.0), (0.9, 9.5), (1.0, 1.5), (1e-7, 1e4)])
def test_a_log_scale_has_plain_numbers_at_its_ticks(values: tuple[float, float]) -> None:
    figure, axes = new_figure()
    line_plot(axes, [0, 1], values)
    log_scale(axes)
    picture(figure)
    low, high = axes.get_ylim()
    shown = [float(label.get_text().replace(",", "")) for label in axes.get_yticklabels()]

    assert len([value for value in shown if low <= value <= high]) >= 2


@pytest.mark.parametrize("count", [0, 1, 2, 12, 40])
def test_layers_have_colours_of_their_own(count: int) -> None:
    assert len(set(shades(count))) == count
