"""Plots of the benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
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


def plot_speeds(results: Sequence[Any], path: Path) -> None:
    """Draw how many times as fast as the first kind each kind of attention is; dotted, what its operations say."""
    panels = list(dict.fromkeys((speed.what, speed.direction) for speed in results))
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4.8), constrained_layout=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        speeds = [speed for speed in results if (speed.what, speed.direction) == panel]
        for number, variant in enumerate(dict.fromkeys(speed.variant for speed in speeds)):
            points = [speed for speed in speeds if speed.variant == variant]
            lengths = [speed.tokens for speed in points]
            colour = f"C{number % 10}"
            axis.plot(lengths, [speed.times_as_fast for speed in points], "o-", color=colour, label=variant)
            axis.plot(lengths, [speed.fewer_operations for speed in points], ":", color=colour)
        lengths = sorted({speed.tokens for speed in speeds})
        axis.set_xscale("log", base=2)
        axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.set_xlabel("tokens")
        axis.set_title(", ".join(panel))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("times as fast (dotted: times fewer operations)")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_curves(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw recall, perplexity and reward over the steps of stage 5: a colour an algorithm, a thin line a seed."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.5), constrained_layout=True)
    for number, algorithm in enumerate(dict.fromkeys(result["algorithm"] for result in results)):
        runs = [result for result in results if result["algorithm"] == algorithm]
        lines = (
            [[(step, share) for step, share, _ in run["curve"]] for run in runs],
            [[(step, perplexity) for step, _, perplexity in run["curve"]] for run in runs],
            [_smooth(run["rewards"]) for run in runs],
        )
        for axis, seeds in zip(axes, lines, strict=True):
            for points in seeds:
                axis.plot(*zip(*points, strict=True), color=f"C{number}", linewidth=0.8, alpha=0.5)
            # Runs of a budget have the same steps; one that is not through yet ends the mean.
            mean = [(points[0][0], fmean(value for _, value in points)) for points in zip(*seeds, strict=False)]
            axis.plot(*zip(*mean, strict=True), color=f"C{number}", linewidth=2.5, label=f"{algorithm} ({len(runs)})")
    labels = ("exact recall, held-out dialogues", "perplexity, held-out answers", "reward a question, training")
    for axis, label in zip(axes, labels, strict=True):
        axis.set_title(label)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _smooth(points: Sequence[tuple[int, float]], window: int = 3) -> list[tuple[int, float]]:
    """Return the running mean of the last points."""
    values = [value for _, value in points]
    return [(step, fmean(values[max(0, number - window + 1) : number + 1])) for number, (step, _) in enumerate(points)]


def plot_upcycled(values: Mapping[str, Any], path: Path) -> None:
    """Draw what an upcycled model recovers of the history by S, and right answers by distance, beside the controls."""
    figure, (worth, recall) = plt.subplots(1, 2, figsize=(13, 4.6), constrained_layout=True)
    for number, (name, sizes) in enumerate(_under(values, "worth/", "/trained")):
        for arm, style in {"memory": "-o", "newest": ":^"}.items():
            parts_by_size = {size: parts["all"] or {} for size, parts in sizes.items()}
            shares = {size: (part.get("recovered") or {}).get(arm) for size, part in parts_by_size.items()}
            points = [(size, share["value"]) for size, share in shares.items() if share]
            if points:
                label = name if arm == "memory" else None
                worth.plot(*zip(*points, strict=True), style, color=f"C{number}", label=label)
    worth.plot([], [], "k:^", label="newest tokens, the same weights")
    worth.set_ylim(0, 1.03)
    worth.set_title("share of the history's worth that is recovered")
    worth.set_xlabel("tokens kept a head, S")
    for arm, cells in _right_answers(values).items():
        names = sorted(cells, key=lambda name: int(name.split("-")[0]))
        recall.plot(names, [cells[name][0] / cells[name][1] for name in names], marker="o", label=arm)
    recall.set_ylim(-0.03, 1.03)
    recall.set_title("right answers, values that training has not seen")
    recall.set_xlabel("turns between fact and question")
    for axis in (worth, recall):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _right_answers(values: Mapping[str, Any]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return right answers and all, by arm and range of distances, of dialogues of all lengths together."""
    arms: dict[str, dict[str, tuple[int, int]]] = {}
    for name, found in _under(values, "recall/"):
        cells = arms.setdefault(name.split("/")[1], {})
        for distance, (right, count) in found["right"].items():
            if "-" in distance:
                before = cells.get(distance, (0, 0))
                cells[distance] = before[0] + right, before[1] + count
    return arms


def _under(values: Mapping[str, Any], start: str, end: str = "") -> list[tuple[str, Any]]:
    found = [name for name in values if name.startswith(start) and name.endswith(end)]
    return [(name.removeprefix(start).removesuffix(end), values[name]) for name in found]
