"""The pictures of a run, and one HTML page with all there is to know about it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rxlm.mrq_bench.answers import Answer
from rxlm.mrq_bench.figures import plots_of
from rxlm.mrq_bench.results import BenchmarkResults
from rxlm.mrq_bench.tables import (
    ANSWERED_TITLE,
    DISTANCE_TITLE,
    WORTH_TITLE,
    answered_table,
    distance_table,
    summary_table,
    worth_table,
)
from rxlm.reporting.page import Page
from rxlm.reporting.plots import save_png

PAGE_FILE = "report.html"
ANSWERS_SHOWN = 16

HEADINGS = {
    "retention": "Retention",
    "capacity": "Capacity and interference",
    "updates": "Updates and what was never told",
    "controls": "Controls",
    "language": "Language",
    "cost": "Cost of a turn",
    "worth": "Worth of history",
}


def write_report(results: BenchmarkResults, answers: Sequence[Answer], folder: Path) -> Path:
    """Write a PNG for every plot and `report.html`, which holds them all, and return the page's path."""
    page = Page(f"Memory benchmark: {results['name']}")
    data = results["data"]
    page.text(
        f"Data: {data['name']} ({', '.join(data['sets'])}), {data['questions']:,} questions. "
        "Intervals are 95 % bootstrap intervals over dialogues."
    )
    for note in data["notes"]:
        page.text(note)
    if results["queries cut"]:
        page.text(f"{results['queries cut']:,} times a query was too long for the model and lost its beginning.")
    page.heading("Summary")
    page.table(*summary_table([results]))
    if (distances := distance_table(results)).rows:
        page.table(*distances, caption=DISTANCE_TITLE)
    heading = ""
    for plot in plots_of(results):
        name = plot.name.split("-")[0]
        if HEADINGS[name] != heading:
            heading = HEADINGS[name]
            page.heading(heading)
        save_png(plot.figure, folder / f"{plot.name}.png")
        page.figure(plot.figure, plot.caption, plot.alt)
        if name == "language":
            page.text(_about_language(results["reports"]["language"]))
        if name == "worth":
            page.table(*worth_table(results), caption=WORTH_TITLE)
            if (answered := answered_table(results)).rows:
                page.table(*answered, caption=ANSWERED_TITLE)
    if sample := _sample(answers):
        page.heading("Some answers")
        header = ["turn", "query", "answer", "expected", "distance", "grade"]
        page.table(header, [_row(answer) for answer in sample], caption="spread over the run's questions")
    page.heading("How it was measured")
    known = {"rxlm": results["rxlm"], **results["run"]}
    page.text("; ".join(f"{name} {value}" for name, value in known.items()))
    page.code(json.dumps(results["model"], indent=2), summary="the model")
    page.write(folder / PAGE_FILE)
    return folder / PAGE_FILE


def _about_language(report: Any) -> str:
    return (
        f"BLEU: {report['bleu']['signature']}; of all answers together {report['bleu']['corpus']:.3f}. "
        f"Cosine: of mean token embeddings, {report['embeddings']}. "
        "Perplexity counts the model's own tokens: between models with different tokenizers compare bits per character."
    )


def _sample(answers: Sequence[Answer]) -> list[Answer]:
    asked = [answer for answer in answers if answer.question is not None and answer.place.control == "none"]
    step = max(1, len(asked) // ANSWERS_SHOWN)
    return asked[step // 2 :: step][:ANSWERS_SHOWN]


def _row(answer: Answer) -> list[Any]:
    question = answer.question
    assert question is not None
    expected = ", ".join(question.expected) or "never told"
    place = f"{answer.place.set}, dialogue {answer.place.dialogue + 1}, turn {answer.place.turn + 1}"
    return [place, answer.query, answer.answer, expected, question.distance, answer.grade]
