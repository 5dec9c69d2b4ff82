"""Plots of the benchmarks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

mpl.use("Agg")

COLOURS = ("#1b6ca8", "#c8553d", "#7a9e3f")


def plot_turns(series: Mapping[str, Mapping[int, Mapping[str, Any]]], title: str, path: Path) -> None:
    """Draw time to the first token, decoding speed and bytes kept against the turn, a line a model."""
    panels = {
        "first_token_ms": ("time to first token", "ms", 1.0),
        "tokens_per_second": ("decoding speed", "tokens a second", 1.0),
        "bytes_kept": ("kept between turns", "MB", 1e6),
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(14, 4.6), constrained_layout=True)
    for axis, (name, (label, unit, scale)) in zip(axes, panels.items(), strict=True):
        for colour, (model, turns) in zip(COLOURS, series.items(), strict=False):
            points = {turn: cost[name] / scale for turn, cost in turns.items() if cost[name]}
            axis.plot(list(points), list(points.values()), marker="o", color=colour, label=model, linewidth=2)
        turns = sorted({turn for costs in series.values() for turn in costs})
        axis.set_xscale("log", base=2)
        if name == "tokens_per_second":
            axis.set_ylim(bottom=0)
        else:
            axis.set_yscale("log")
        axis.set_xticks(turns, [str(turn) for turn in turns])
        axis.minorticks_off()
        axis.set_xlabel("turn of the conversation (256 tokens each)")
        axis.set_ylabel(unit)
        axis.set_title(label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)
