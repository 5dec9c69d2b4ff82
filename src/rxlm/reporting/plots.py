"""Plots in one style: figures without global state, colours for the colour-blind, too, legends beside data.

A legend is drawn when a figure becomes a PNG: of all labels in all its axes, below them. Labels that several axes share
appear once, so give the same thing the same colour.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cycler import cycler
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from rxlm.files import write_atomically

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
"""Colours of Okabe and Ito, without their yellow, which is too light on white."""
GREY = "#6b6b6b"
DOTS_PER_INCH = 150
FEW_POINTS = 24
LEGEND_ROW, LEGEND_KEY, LEGEND_LETTER = 0.24, 0.6, 0.072
"""Inches: height of a row of the legend, width of a line's key with its gaps, and of a letter."""

Numbers = Sequence[float] | np.ndarray
Band = tuple[Numbers, Numbers]
"""Lower and upper ends of intervals, in the unit of the values themselves."""


def new_figure(width: float = 7.0, height: float = 4.0) -> tuple[Figure, Axes]:
    """Return an empty figure with one axes; the size is in inches, without the legend."""
    figure = _figure(width, height)
    axes = figure.add_subplot()
    _dress(axes)
    return figure, axes


def new_panels(
    titles: Sequence[str], *, columns: int = 2, width: float = 4.7, height: float = 3.1
) -> tuple[Figure, list[Axes]]:
    """Return a figure with an axes for each title, in rows of `columns`; the size in inches is that of one panel."""
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = _figure(width * columns, height * rows)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(len(titles))]
    for axes, title in zip(panels, titles, strict=True):
        _dress(axes)
        set_title(axes, title)
    return figure, panels


def line_plot(
    axes: Axes,
    x: Numbers,
    y: Numbers,
    label: str | None = None,
    band: Band | None = None,
    color: str | None = None,
    *,
    dash: str | None = None,
    opacity: float = 1.0,
) -> None:
    """Draw a line through (x, y), with a dot at each point where they are few.

    Args:
        label: for the legend.
        band: lower and upper ends of an interval around `y`, such as one of confidence.
        color: the next of the palette if not given.
        dash: a line style of matplotlib: solid, dashed, dotted. If not given, solid, until the colours repeat.
        opacity: less than 1 for a line in the background.
    """
    dash = "solid" if dash is None and color is not None else dash
    marker = "o" if len(x) <= FEW_POINTS else None
    (line,) = axes.plot(x, y, label=label, color=color, linestyle=dash, marker=marker, markersize=3.5, alpha=opacity)
    if band is not None:
        axes.fill_between(x, band[0], band[1], color=line.get_color(), alpha=0.18, linewidth=0)


def heat_map(
    figure: Figure,
    axes: Axes,
    values: Sequence[Sequence[float]] | np.ndarray,
    x_labels: Sequence[str],
    y_labels: Sequence[str],
    *,
    low: float | None = None,
    high: float | None = None,
    form: str = "{:.0%}",
    unit: str | None = None,
) -> None:
    """Draw a table of numbers as coloured cells with the number in each; NaN is an empty cell.

    Args:
        values: a row for each of `y_labels`, a column for each of `x_labels`.
        low, high: values of the lightest and the darkest colour; the least and the greatest value if not given.
        form: how a number is written in its cell.
        unit: what the colours mean, written at the colour bar.
    """
    table = np.asarray(values, dtype=float)
    if table.shape != (len(y_labels), len(x_labels)):
        raise ValueError(f"values has the shape {table.shape}; the labels are for {(len(y_labels), len(x_labels))}.")
    image = axes.imshow(np.ma.masked_invalid(table), cmap="YlGnBu", vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(x_labels)), labels=list(x_labels))
    axes.set_yticks(range(len(y_labels)), labels=list(y_labels))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    lightest, darkest = image.get_clim()
    threshold = lightest + 0.55 * (darkest - lightest)
    size = float(np.clip(90 / max(table.shape[1], 1), 5, 9))
    for (row, column), value in np.ndenumerate(table):
        if math.isfinite(value):
            ink = "white" if value > threshold else "#1a1a1a"
            axes.text(column, row, form.format(value), ha="center", va="center", color=ink, fontsize=size)
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form.format(value)))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)  # pyrefly: ignore
    if unit is not None:
        bar.set_label(unit, fontsize=9)


def bar_groups(
    axes: Axes, groups: Sequence[str], series: Mapping[str, Numbers], errors: Mapping[str, Band] | None = None
) -> None:
    """Draw bars in groups, one bar of each series to a group.

    Args:
        groups: the label under each group.
        series: the bars' heights by the series' name, a number for each group; NaN draws none.
        errors: lower and upper ends of an interval around the heights, for some series or all.
    """
    width = 0.8 / max(len(series), 1)
    places = np.arange(len(groups))
    for number, (name, values) in enumerate(series.items()):
        heights = np.asarray(values, dtype=float)
        if heights.shape != places.shape:
            raise ValueError(f"series[{name!r}] has {heights.size} values; there are {len(groups)} groups.")
        spread = None
        if errors is not None and name in errors:
            low, high = (np.asarray(end, dtype=float) for end in errors[name])
            spread = np.maximum(np.stack([heights - low, high - heights]), 0)
        where = places + (number - (len(series) - 1) / 2) * width
        bars = {"ecolor": "#333333", "error_kw": {"elinewidth": 1.0}, "capsize": min(3.0, 12 * width)}
        axes.bar(where, heights, width * 0.92, yerr=spread, label=name, color=PALETTE[number % len(PALETTE)], **bars)
    axes.set_xticks(places, labels=list(groups))
    axes.grid(visible=False, axis="x")


def shades(count: int) -> list[str]:
    """Return colours for things that have an order, such as layers: from dark to light."""
    steps = np.linspace(0.05, 0.82, count) if count != 1 else [0.3]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colormaps["viridis"](step)[:3]) for step in steps]


def set_title(axes: Axes, title: str) -> None:
    """Write a title above axes, at their left edge."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")


def count_steps(axes: Axes, label: str = "step") -> None:
    """Let the horizontal axis count whole things."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(label)


def plain_numbers(axes: Axes) -> None:
    """Write the numbers of the vertical axis in full, without padding zeros."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers at its ticks."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    spots = LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,))
    axes.yaxis.set_major_locator(spots if decades > 1 else MaxNLocator(nbins=5))
    axes.minorticks_off()
    plain_numbers(axes)


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as a PNG, its legend drawn."""
    _add_legend(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(png_bytes(figure)))


def _figure(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white", layout=layout)


def _dress(axes: Axes) -> None:
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * cycler(color=PALETTE))
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(labelsize=9, color="#888888")
    axes.margins(x=0.02)


def _add_legend(figure: Figure) -> None:
    """Draw one legend below all axes, and make the figure taller by it."""
    found: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, _key(handle))
    if not found or figure.legends:
        return
    width, height = figure.get_size_inches()
    columns = _legend_columns([LEGEND_KEY + LEGEND_LETTER * len(label) for label in found], width)
    figure.set_size_inches(width, height + LEGEND_ROW * math.ceil(len(found) / columns))
    figure.legend(
        list(found.values()), list(found), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )


def _key(handle: Artist) -> Artist:
    """Return what stands for a line in the legend: without the dots, which only some lines of a label may have."""
    if not isinstance(handle, Line2D):
        return handle
    return Line2D([], [], color=handle.get_color(), linestyle=handle.get_linestyle(), linewidth=handle.get_linewidth())


def _legend_columns(widths: Sequence[float], available: float) -> int:
    """Return how many columns entries of these widths fill best; a legend runs down its columns."""
    for columns in range(len(widths), 1, -1):
        rows = math.ceil(len(widths) / columns)
        if sum(max(widths[top : top + rows]) for top in range(0, len(widths), rows)) <= available:
            return math.ceil(len(widths) / rows)
    return 1
