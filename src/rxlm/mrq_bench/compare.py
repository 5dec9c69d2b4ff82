"""Several models on the same data: one table and one plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rxlm.mrq_bench.figures import Plot, draw_cost, draw_curve, recall_axes
from rxlm.mrq_bench.results import OWN, BenchmarkResults
from rxlm.mrq_bench.tables import CONTROL_NAMES, summary_table
from rxlm.mrq_bench.worth_plot import draw_recovered, recovered_axes
from rxlm.reporting import plots
from rxlm.reporting.page import Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE_FILE = "comparison.html"
PLOT_FILE = "comparison.png"
CAPTIONS = {
    "retention": "Exact answers by the distance in turns between a fact and its question, with 95 % intervals; broken: "
    "the same model from an empty memory.",
    "cost": "The time to the first token against the turn of the conversation.",
    "worth": "The share of what the whole history is worth to a model's own weights that its memory recovers.",
}
BROKEN = ("dashed", "dotted", "dashdot")


def check_comparable(results: Sequence[BenchmarkResults]) -> None:
    """Raise ValueError unless all were measured on the same dialogues, by the same scorer."""
    first = results[0]
    for other in results[1:]:
        for what, values in {
            "data": [result["data"]["checksum"] for result in (first, other)],
            "scorer": [result["run"]["scorer"] for result in (first, other)],
        }.items():
            if values[0] != values[1]:
                raise ValueError(
                    f"{first['name']} and {other['name']} cannot be compared: their {what} differ "
                    f"({values[0]} and {values[1]})."
                )


def write_comparison(results: Sequence[BenchmarkResults], folder: Path) -> Path:
    """Write `comparison.png` and `comparison.html`, and return the page's path."""
    check_comparable(results)
    plot = comparison_plot(results)
    plots.save_png(plot.figure, folder / PLOT_FILE)
    page = Page("Memory benchmark: " + ", ".join(result["name"] for result in results))
    data = results[0]["data"]
    page.text(f"Data: {data['name']} ({', '.join(data['sets'])}), {data['questions']:,} questions.")
    page.table(*summary_table(results), caption="with 95 % bootstrap intervals over dialogues")
    page.figure(plot.figure, plot.caption, plot.alt)
    if not _share_embeddings(results):
        page.text("Cosines and the composite score use each model's own embeddings and are not comparable.")
    page.write(folder / PAGE_FILE)
    return folder / PAGE_FILE


def comparison_plot(results: Sequence[BenchmarkResults]) -> Plot:
    """Draw recall against distance, each model with its empty memory, and the time to the first token."""
    titles = {
        "retention": "exact answers by distance",
        "cost": "time to the first token (ms)",
        "worth": "recovered share by turn",
    }
    shown = [name for name in titles if all(_has(result, name) for result in results)]
    if not shown:
        raise ValueError(
            "There is nothing to draw: the results have neither retention, cost nor recovered shares in common."
        )
    figure, panels = plots.new_panels([titles[name] for name in shown], width=5.6, height=3.8)
    axes = dict(zip(shown, panels, strict=True))
    for number, result in enumerate(results):
        color, name = plots.PALETTE[number % len(plots.PALETTE)], str(result["name"])
        if "retention" in axes:
            curves = result["reports"]["retention"]["curves"]
            draw_curve(axes["retention"], curves["none"], name, color)
        if "cost" in axes:
            draw_cost(axes["cost"], result["reports"]["cost"], "first_token_ms", name, color)
        if "worth" in axes:
            draw_recovered(axes["worth"], result["reports"]["worth"], "memory", name, color)
    if "worth" in axes:
        recovered_axes(axes["worth"], list(results[0]["reports"]["worth"]["by_turn"]))
    if "retention" in axes:
        _draw_empty_memories(axes["retention"], results)
        report = results[0]["reports"]["retention"]
        recall_axes(axes["retention"], [point["distance"] for point in report["curves"]["none"]])
        axes["retention"].axhline(report["chance"], color=plots.GREY, linewidth=1, linestyle="dotted", label="chance")
    caption = " ".join(CAPTIONS[name] for name in shown)
    return Plot("comparison", figure, caption, f"Line plots: {', '.join(titles[name] for name in shown)}.")


def _has(result: BenchmarkResults, name: str) -> bool:
    """Tell whether a report can be drawn; that on the worth of history needs the arm with everything kept."""
    report = result["reports"].get(name)
    return bool(report) and (name != "worth" or "everything" in report["arms"])


def _draw_empty_memories(axes: "Axes", results: Sequence[BenchmarkResults]) -> None:
    """Draw the controls over all models, each broken in another way: most of them lie on one another, near zero."""
    for number, result in enumerate(results):
        empty = result["reports"]["retention"]["curves"].get("empty")
        if empty:
            distances, recall = zip(*((point["distance"], point["recall"]["value"]) for point in empty), strict=True)
            label, color = f"{result['name']}, {CONTROL_NAMES['empty']}", plots.PALETTE[number % len(plots.PALETTE)]
            plots.line_plot(axes, distances, recall, label, None, color, dash=BROKEN[number % len(BROKEN)])


def _share_embeddings(results: Sequence[BenchmarkResults]) -> bool:
    reports = [result["reports"].get("language") for result in results]
    names = {report["embeddings"] for report in reports if report}
    return len(names) < 1 or (len(names) == 1 and OWN not in names)
