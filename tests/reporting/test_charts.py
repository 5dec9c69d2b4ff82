"""Every figure of a log has its chart; a chart shows what was logged, smoothed but not moved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxlm.reporting.catalogue import CHARTS, Chart, chart_of, label
from rxlm.reporting.charts import SMOOTHED_FROM, Line, Panel, draw, smoothed
from rxlm.reporting.plots import GREY
from rxlm.reporting.runs import Series

CHART = {chart.file: chart for chart in CHARTS}


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("loss", "losses", "total loss"),
        ("answer_loss_empty", "losses", "answer loss, empty memory"),
        ("masked_loss", "losses", "masked loss"),
        ("evaluation/answer_loss", "losses", "answer loss (evaluation)"),
        ("token_accuracy", "accuracy", "token accuracy"),
        ("cosine_similarity", "accuracy", "cosine similarity"),
        ("evaluation/recall/1-4", "evaluation", "1-4"),
        ("evaluation/accuracy", "evaluation", "accuracy"),
        ("gradient_norm", "gradients", "all parameters"),
        ("gradient_norm/gates", "gradients", "gates"),
        ("gate/layer_3", "gates", "layer 3"),
        ("consolidation_gate/layer_3", "gates", "layer 3"),
        ("memory_drift/layer_11", "memory_drift", "layer 11"),
        ("learning_rate", "learning_rate", "learning rate"),
        ("tokens_per_second", "tokens_per_second", "tokens per second"),
        ("steps_per_second", "steps_per_second", "steps per second"),
        ("load_balancing_loss", "other", "load balancing loss"),
        ("reward/bleu", "other", "bleu"),
    ],
)
def test_a_figure_stands_in_its_chart_by_a_name_in_words(name: str, file: str, words: str) -> None:
    chart = chart_of(name)

    assert chart is CHART[file]
    assert label(chart, name) == words


def test_figures_of_the_progress_line_are_not_drawn() -> None:
    assert chart_of("seconds_left") is None
    assert chart_of("seconds_per_step") is None


def test_every_chart_says_what_is_right_and_what_is_wrong() -> None:
    assert all("Right: " in chart.caption and "Wrong: " in chart.caption for chart in CHARTS if chart.file != "other")


@given(st.lists(st.floats(-1e3, 1e3) | st.just(float("nan")), max_size=300))
def test_smoothing_is_the_mean_of_the_neighbours_and_leaves_gaps(values: list[float]) -> None:
    reach = len(values) // 50
    expected = [
        np.nan if np.isnan(value) else np.nanmean(values[max(0, place - reach) : place + reach + 1])
        for place, value in enumerate(values)
    ]

    np.testing.assert_allclose(smoothed(values), expected, atol=1e-9)


def panel(values: list[float], **settings: float) -> Panel:
    return Panel(
        "stage", [Line("line", Series(tuple(range(1, len(values) + 1)), tuple(values)), "#000000")], **settings
    )


def test_a_long_line_is_drawn_smoothed_and_as_logged_and_a_short_one_once() -> None:
    noisy = [float(step % 2) for step in range(SMOOTHED_FROM)]
    pale, bold = draw(CHART["losses"], [panel(noisy)]).axes[0].lines

    assert list(pale.get_ydata()) == noisy
    np.testing.assert_allclose(bold.get_ydata(), smoothed(noisy))
    assert pale.get_alpha() < 0.5
    assert len(draw(CHART["losses"], [panel(noisy[1:])]).axes[0].lines) == 1
    assert len(draw(CHART["learning_rate"], [panel(noisy)]).axes[0].lines) == 1


@pytest.mark.parametrize(
    ("file", "values", "scale"),
    [
        ("losses", [5.0, 0.1], "log"),
        ("losses", [5.0, 1.0], "linear"),
        ("losses", [-0.5, -0.01], "linear"),
        ("losses", [5.0, 0.0], "linear"),
        ("gradients", [100.0, 0.1], "log"),
        ("accuracy", [0.001, 1.0], "linear"),
        ("losses", [float("nan"), float("inf")], "linear"),
    ],
)
def test_an_axis_is_logarithmic_where_positive_values_span_more_than_a_decade(
    file: str, values: list[float], scale: str
) -> None:
    assert draw(CHART[file], [panel(values)]).axes[0].get_yscale() == scale


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.file)
@pytest.mark.parametrize("values", [[0.2], [0.2, 0.3, 0.9], [-3.0, 2.0], [1e-6, 1e5], [float("nan")] * 60])
def test_all_values_lie_within_their_axes(chart: Chart, values: list[float]) -> None:
    low, high = draw(chart, [panel(values)]).axes[0].get_ylim()
    assert all(low <= value <= high for value in values if value == value and not (chart.scale == "zero" and value < 0))


def test_phases_and_limits_are_marked() -> None:
    figure = draw(CHART["gradients"], [panel([3.0, 2.0, 1.0], phase_ends=[2], limit=1.5)])
    dotted, _, dashed, _ = figure.axes[0].lines

    assert dotted.get_xdata() == [2, 2]
    assert list(dashed.get_ydata()) == [1.5, 1.5]
    assert dotted.get_color() == dashed.get_color() == GREY
