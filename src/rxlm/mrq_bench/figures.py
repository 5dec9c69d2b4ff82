"""The plots of a run, drawn from its results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rxlm.mrq_bench.half_life import curve_at
from rxlm.mrq_bench.results import BenchmarkResults
from rxlm.mrq_bench.tables import CONTROL_NAMES, half_life
from rxlm.mrq_bench.worth_plot import draw_worth
from rxlm.reporting import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 8
"""A point of fewer answers than this is left out of a map, or of a line over facts: it says next to nothing."""

COLORS = dict(zip(CONTROL_NAMES, plots.PALETTE, strict=False))


class Plot(NamedTuple):
    """A figure: the file's name, what one should see, and what it shows for those who cannot see it."""

    name: str
    figure: "Figure"
    caption: str
    alt: str


def plots_of(results: BenchmarkResults) -> Iterator[Plot]:
    """Draw every report that is there."""
    reports = results["reports"]
    drawings = {
        "retention": (_retention, _map),
        "capacity": (_capacity,),
        "updates": (_updates,),
        "controls": (_controls,),
        "language": (_language,),
        "cost": (_cost,),
        "worth": (_worth,),
    }
    for name, functions in drawings.items():
        if reports.get(name):
            for draw in functions:
                plot = draw(reports[name])
                if plot is not None:
                    yield plot


def recall_axes(axes: "Axes", distances: Sequence[float], label: str = "turns between fact and question") -> None:
    """Let the horizontal axis count turns in doublings, and the vertical one go from 0 to 100 %."""
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(12) if 2**power <= 1.3 * max(distances, default=1)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(label)
    shares(axes)
    axes.set_ylabel("exact answers")


def shares(axes: "Axes") -> None:
    """Let the vertical axis go from 0 to 100 %."""
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])


def draw_curve(axes: "Axes", curve: Sequence[Mapping[str, Any]], label: str, color: str, dash: str = "solid") -> None:
    """Draw recall against distance with its band."""
    estimates = [point["recall"] for point in curve]
    band = [e["low"] for e in estimates], [e["high"] for e in estimates]
    distances = [point["distance"] for point in curve]
    plots.line_plot(axes, distances, [e["value"] for e in estimates], label, band, color, dash=dash)


def _retention(report: Mapping[str, Any]) -> Plot:
    figure, axes = plots.new_figure(7.5, 4.2)
    for control, curve in report["curves"].items():
        draw_curve(axes, curve, CONTROL_NAMES[control], COLORS[control])
    distances = [point["distance"] for point in report["curves"]["none"]]
    chance, forgetting = report["chance"], report["forgetting"]
    if forgetting is not None:
        steps = [distances[0] * (distances[-1] / distances[0]) ** (step / 60) for step in range(61)]
        fitted = curve_at(forgetting, steps, chance)
        plots.line_plot(axes, steps, fitted, "fitted forgetting", None, plots.GREY, dash="dashed", opacity=0.8)
    axes.axhline(chance, color=plots.GREY, linewidth=1, linestyle="dotted", label="chance of a guess")
    recall_axes(axes, distances)
    found = f" Half-life: {half_life(forgetting)}." if forgetting else ""
    caption = (
        f"Exact answers by the distance in turns between a fact and the question about it, with 95 % intervals.{found} "
        "A model that remembers stands high above its controls; where the lines meet, it has forgotten."
    )
    return Plot("retention", figure, caption, "Line plot of exact answers against distance in turns, with controls.")


def _map(report: Mapping[str, Any]) -> Plot | None:
    table = report["map"]
    if table is None:
        return None
    rows, columns = table["facts"], table["distances"]
    figure, axes = plots.new_figure(max(5.0, 2.2 + 0.9 * len(columns)), 1.6 + 0.36 * len(rows))
    values = [[cell["value"] if _is_enough(cell) else float("nan") for cell in row] for row in table["cells"]]
    plots.heat_map(figure, axes, values, columns, rows, low=0, high=1, unit="exact answers")
    axes.set_xlabel("turns between fact and question")
    axes.set_ylabel("facts held")
    caption = (
        "Exact answers by distance and by the number of facts that the conversation held. Darker is better; a memory "
        "that is too small fades downwards, one that forgets fades to the right. Empty cells had fewer "
        f"than {FEWEST} questions."
    )
    return Plot("retention-map", figure, caption, "Heat map of exact answers by facts held and distance in turns.")


def _is_enough(estimate: Mapping[str, Any] | None) -> bool:
    return estimate is not None and estimate["count"] >= FEWEST


def _capacity(report: Mapping[str, Any]) -> Plot:
    figure, axes = plots.new_figure(7.0, 4.0)
    labels = [label for label, cell in report["all distances"].items() if _is_enough(cell)]
    places = {label: place for place, label in enumerate(labels)}
    series = [("all distances", report["all distances"], "#111111", "dashed")]
    colors = plots.shades(len(report["by_distance"]))
    series += [
        (f"{name} turns", cells, color, "solid")
        for (name, cells), color in zip(report["by_distance"].items(), colors, strict=True)
    ]
    for name, all_cells, color, dash in series:
        cells = {label: cell for label, cell in all_cells.items() if _is_enough(cell)}
        estimates = list(cells.values())
        band = ([e["low"] for e in estimates], [e["high"] for e in estimates]) if name != "all distances" else None
        x = [places[label] for label in cells]
        plots.line_plot(axes, x, [e["value"] for e in estimates], name, band, color, dash=dash)
    axes.set_xticks(range(len(labels)), labels=labels)
    axes.set_xlabel("facts held")
    shares(axes)
    axes.set_ylabel("exact answers")
    caption = (
        "Exact answers by the number of facts held, a line a range of distances, with 95 % intervals. Level lines: the "
        "facts do not crowd each other out. The dashed line mixes distances, which are longer where more is held."
    )
    return Plot("capacity", figure, caption, "Line plot of exact answers against the number of facts held.")


def _updates(report: Mapping[str, Any]) -> Plot:
    names = {
        "first": "told once",
        "overwritten": "overwritten",
        "never told": "never told",
    }
    groups = {name: found for name, found in report.items() if found}
    worth = ("right", "stale", "other value", "abstained", "nothing")
    alias = {"invented": "other value", "abstained": "right"}  # for what was never told, to say so is right

    def cells(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
        return {alias.get(key, key) if name == "never told" else key: cell for key, cell in found.items()}

    tables = [cells(name, found) for name, found in groups.items()]
    nothing = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    series = {kind: [(table.get(kind) or nothing)["value"] for table in tables] for kind in worth}
    errors = {
        kind: tuple([(table.get(kind) or nothing)[end] for table in tables] for end in ("low", "high"))
        for kind in worth
    }
    figure, axes = plots.new_figure(7.0, 3.8)
    plots.bar_groups(axes, [names[name] for name in groups], series, errors)  # pyrefly: ignore
    shares(axes)
    axes.set_ylabel("share of answers")
    caption = (
        "What answers were worth, by what became of the fact, with 95 % intervals. A stale answer names a value that "
        "was overwritten. For facts never told it is right to say so, and another value is an invention."
    )
    return Plot("updates", figure, caption, "Bars of right, stale, other and abstaining answers by sort of question.")


def _controls(report: Mapping[str, Any]) -> Plot:
    recall = {control: found for control, found in report["recall"].items() if found}
    figure, axes = plots.new_figure(6.5, 3.6)
    labels = [f"{CONTROL_NAMES[control]}\n{found['value']:.1%}" for control, found in recall.items()]
    values, ends = [e["value"] for e in recall.values()], [[e[end] for e in recall.values()] for end in ("low", "high")]
    plots.bar_groups(axes, labels, {"exact answers": values}, {"exact answers": (ends[0], ends[1])})
    axes.axhline(report["chance"], color=plots.GREY, linewidth=1, linestyle="dotted", label="chance of a guess")
    shares(axes)
    caption = (
        "Exact answers to the same questions from the model's own memory and without it, with 95 % intervals. What the "
        "controls score is not remembered; a control well above chance means that the questions give answers away."
    )
    return Plot("controls", figure, caption, "Bars of exact answers of the model and of its controls.")


def _language(report: Mapping[str, Any]) -> Plot:
    figure, (left, right) = plots.new_panels(["perplexity of gold answers", "composite score by turn"], height=3.4)
    names = {"perplexity": "all answers", "perplexity of answers to questions": "answers to questions"}
    found = report["perplexity"]
    groups = ["its own\nmemory" if control == "none" else _two_lines(CONTROL_NAMES[control]) for control in found]
    nothing = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    table = {label: [by[name] or nothing for by in found.values()] for name, label in names.items()}
    plots.bar_groups(
        left,
        groups,
        {label: [e["value"] for e in cells] for label, cells in table.items()},
        {label: ([e["low"] for e in cells], [e["high"] for e in cells]) for label, cells in table.items()},
    )
    plots.log_scale(left)
    left.set_ylim(bottom=1)
    composite = report["composite"]
    if composite is not None:
        turns = [turn + 2 for turn in range(len(composite["by_turn"]))]
        cells = composite["by_turn"]
        band = [e["low"] for e in cells], [e["high"] for e in cells]
        plots.line_plot(right, turns, [e["value"] for e in cells], "mean of the turn", band, plots.PALETTE[2])
        for name, dash in (("greatest", "dashed"), ("least", "dotted")):
            level = composite[name]["value"]
            right.axhline(level, color=plots.GREY, linewidth=1.2, linestyle=dash, label=f"{name} turn of a dialogue")
    right.set_ylim(0, 10)
    plots.count_steps(right, "turn of the dialogue")
    right.set_ylabel("score, 0 to 10")
    caption = (
        f"In {report['set']}, with 95 % intervals. Left: how surprising the reference answers are from the model's "
        "own memory, from an empty and from another dialogue's; a memory that helps makes the first bars the lowest. "
        "Right: the composite score of the turns after the first."
    )
    return Plot("language", figure, caption, "Bars of perplexity by memory, and a line of the composite score by turn.")


def _two_lines(text: str) -> str:
    return text.replace(" ", "\n", 1)


def _cost(report: Mapping[str, Any]) -> Plot:
    panels = {
        "time to the first token (ms)": "first_token_ms",
        "decoding speed (tokens a second)": "tokens_per_second",
        "memory update (ms)": "update_ms",
        "what the model attends to (kB)": "session_bytes",
    }
    kept = {title: name for title, name in panels.items() if report[name][0] is not None}
    figure, all_axes = plots.new_panels(list(kept))
    for axes, name in zip(all_axes, kept.values(), strict=True):
        draw_cost(axes, report, name, None, plots.PALETTE[0])
    caption = (
        f"What a turn costs against its number, one conversation at a time, answers of {report['num_tokens']} tokens, "
        f"{report['threads']} threads; medians of five conversations, each the best of three tries, with 95 % "
        "intervals. Level lines: a turn costs the same however long the conversation is."
    )
    return Plot("cost", figure, caption, "Time to first token, speed, update time and bytes against the turn.")


def _worth(report: Mapping[str, Any]) -> Plot:
    return Plot("worth", *draw_worth(report))


def draw_cost(axes: "Axes", report: Mapping[str, Any], name: str, label: str | None, color: str) -> None:
    """Draw one of the series of the report on cost."""
    series = report[name]
    if name == "session_bytes":
        plots.line_plot(axes, report["turns"], [count / 1e3 for count in series], label, None, color)
    else:
        band = [e["low"] for e in series], [e["high"] for e in series]
        plots.line_plot(axes, report["turns"], [e["value"] for e in series], label, band, color)
    axes.set_xscale("log", base=2)
    axes.set_xticks(report["turns"], [str(turn) for turn in report["turns"]])
    axes.minorticks_off()
    # By the lines: a busy moment of the machine makes an interval that dwarfs them.
    highest = max(np.asarray(line.get_ydata(), dtype=float).max() for line in axes.get_lines())
    axes.set_ylim(bottom=0, top=1.4 * highest)
    axes.set_xlabel("turn of the conversation")
