"""Plots of the benchmarks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("Agg")

Turns = Mapping[int, Mapping[str, Any]]

# Lines that coincide stay apart: each has its own width, dash and marker, and later ones are drawn on top.
STYLES = (
    {"color": "#1b6ca8", "marker": "o", "linewidth": 2.5},
    {"color": "#c8553d", "marker": "s", "linewidth": 4.0, "alpha": 0.75},
    {"color": "#5d8a2f", "marker": "^", "linewidth": 1.8, "linestyle": "--"},
)


def plot_turns(series: Mapping[str, Turns], title: str, path: Path, turn_tokens: int = 256) -> None:
    """Draw time to the first token, decoding speed and bytes kept against the turn, a line a model."""
    panels = {
        "first_token_ms": ("time to first token", "milliseconds", 1.0),
        "tokens_per_second": ("decoding speed", "tokens a second", 1.0),
        "bytes_kept": ("kept between turns", "megabytes", 1e6),
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(14, 4.8), constrained_layout=True)
    for axis, (name, (label, unit, scale)) in zip(axes, panels.items(), strict=True):
        for style, (model, turns) in zip(STYLES, series.items(), strict=False):
            points = {turn: cost[name] / scale for turn, cost in turns.items() if cost[name]}
            axis.plot(list(points), list(points.values()), label=model, **style)
        _dress(axis, series, turn_tokens, logarithmic=name != "tokens_per_second")
        axis.set_ylabel(unit)
        axis.set_title(label)
    for style, (model, turns) in zip(STYLES, series.items(), strict=False):
        _say_what_is_missing(axes[0], model, turns, str(style["color"]))
    axes[0].legend(frameon=False, loc="upper left")
    figure.suptitle(f"{title}\n")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _dress(axis: Axes, series: Mapping[str, Turns], turn_tokens: int, *, logarithmic: bool) -> None:
    turns = sorted({turn for costs in series.values() for turn in costs})
    axis.set_xscale("log", base=2)
    axis.set_xticks(turns, [str(turn) for turn in turns])
    if logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.set_ylim(top=axis.get_ylim()[1] * 3)  # room for the legend
    else:
        axis.set_ylim(bottom=0, top=axis.get_ylim()[1] * 1.1)
    axis.minorticks_off()
    axis.set_xlabel(f"turn of the conversation ({turn_tokens} tokens each)")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _say_what_is_missing(axis: Axes, model: str, turns: Turns, colour: str) -> None:
    """Write beside a line's end why it goes no further."""
    missing = [turn for turn, cost in turns.items() if cost["left_out"]]
    measured = [turn for turn, cost in turns.items() if cost["first_token_ms"]]
    if missing and measured:
        axis.annotate(
            f"turn {missing[0]}:\n{turns[missing[0]]['left_out']}",
            (measured[-1], turns[measured[-1]]["first_token_ms"]),
            xytext=(8, -4),
            textcoords="offset points",
            fontsize=8,
            color=colour,
            va="top",
        )
