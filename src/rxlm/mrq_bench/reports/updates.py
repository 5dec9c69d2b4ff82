"""Report 3: facts that were overwritten, and facts that were never told."""

from typing import Any

from rxlm.data.scoring import Grade
from rxlm.mrq_bench.answers import Answer
from rxlm.mrq_bench.reports.recall import Findings, plain


def updates(findings: Findings) -> dict[str, Any]:
    """Return what answers to three sorts of question were worth, as shares.

    first: the fact never changed. overwritten: it had other values before, and naming only such a one is a stale
    answer. never told: right is to say so; what names a value is invented. A sort without a question is None.
    """
    told, never = findings.told(), findings.never_told()
    first = [answer for answer in told if answer.question is not None and not answer.question.stale]
    overwritten = [answer for answer in told if answer.question is not None and answer.question.stale]
    worth = {"right": Grade.RIGHT, "stale": Grade.STALE, "other value": Grade.OTHER, "abstained": Grade.ABSTAINED}
    return {
        "first": _shares(findings, first, {name: grade for name, grade in worth.items() if name != "stale"}),
        "overwritten": _shares(findings, overwritten, worth),
        "never told": _shares(findings, never, {"abstained": Grade.RIGHT, "invented": Grade.OTHER}),
    }


def _shares(findings: Findings, answers: list[Answer], worth: dict[str, Grade]) -> dict[str, Any] | None:
    if not answers:
        return None
    found = {name: plain(findings.share(answers, lambda a, g=grade: a.grade == g)) for name, grade in worth.items()}
    named = set(map(str, worth.values()))
    return {**found, "nothing": plain(findings.share(answers, lambda answer: answer.grade not in named))}
