"""Draws a chart: panels of lines, smoothed where they are long, on scales that suit them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rxlm.reporting.catalogue import Chart
from rxlm.reporting.plots import (
    GREY,
    count_steps,
    line_plot,
    log_scale,
    new_figure,
    new_panels,
    plain_numbers,
    set_title,
)
from rxlm.reporting.runs import Series

DECADE = 10.0
SMOOTHED_FROM = 50
COLUMNS = 2
LIMIT: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": "--"}


@dataclass(frozen=True)
class Line:
    """A line of a chart: its label, what it shows, and how."""

    label: str
    series: Series
    color: str
    dash: str = "solid"


@dataclass(frozen=True)
class Panel:
    """One axes of a chart: its title, its lines, the steps at which a phase ends, and a limit to show, if any."""

    title: str
    lines: Sequence[Line]
    phase_ends: Sequence[int] = ()
    limit: float | None = None


def draw(chart: Chart, panels: Sequence[Panel], *, legend: bool = True) -> Figure:
    """Draw a chart, with or without a legend that names its lines."""
    if len(panels) == 1:
        figure, axes = new_figure()
        set_title(axes, panels[0].title)
        every = [axes]
    else:
        figure, every = new_panels([panel.title for panel in panels], columns=COLUMNS)
    for place, (axes, panel) in enumerate(zip(every, panels, strict=True)):
        _draw_panel(chart, axes, panel, legend=legend)
        if place % COLUMNS == 0:
            axes.set_ylabel(chart.unit)
    if any(panel.limit is not None for panel in panels):
        every[-1].plot([], [], label="clipped above", **LIMIT)  # last in the legend
    figure.align_ylabels()
    return figure


def smoothed(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the running mean of values over a twenty-fifth of them, shorter at both ends; gaps stay gaps."""
    array = np.asarray(values, dtype=float)
    reach = len(array) // 50
    known = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(array))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(array))
    means = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(known, means, np.nan)


def _draw_panel(chart: Chart, axes: Axes, panel: Panel, *, legend: bool) -> None:
    for end in panel.phase_ends:
        axes.axvline(end, color=GREY, linewidth=0.8, dashes=(1, 3))
    for line in panel.lines:
        steps, values = line.series.steps, np.asarray(line.series.values)
        values = np.where(np.isfinite(values), values, np.nan)
        if len(values) >= SMOOTHED_FROM and chart.smooth:
            line_plot(axes, steps, values, color=line.color, opacity=0.25)
            values = smoothed(values)
        line_plot(axes, steps, values, line.label if legend else None, color=line.color, dash=line.dash)
    if panel.limit is not None:
        axes.axhline(panel.limit, **LIMIT)
    count_steps(axes)
    _set_scale(chart, axes, [value for line in panel.lines for value in line.series.values])


def _set_scale(chart: Chart, axes: Axes, values: Iterable[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return
    low, high = min(finite), max(finite)
    if chart.scale == "log" and low > 0 and high / low > DECADE:
        log_scale(axes)
    elif chart.scale == "share" and low >= 0 and high <= 1:
        axes.set_ylim(-0.03, 1.03)
    elif chart.scale == "zero":
        axes.set_ylim(bottom=0)
        plain_numbers(axes)
