"""What the reports on recall share: which answers count, in which ranges, and the figures' bootstrap."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rxlm.mrq_bench.answers import Answer, AnswerLog
from rxlm.mrq_bench.benchmark_data import BenchmarkData
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.statistics import Bootstrap, Estimate

Range = tuple[int, int]

DISTANCE_RANGES: tuple[Range, ...] = ((1, 4), (5, 7), (8, 16), (17, 32), (33, 64), (65, 128), (129, 256), (257, 10**9))
"""Distances in turns for tables."""

FINE_DISTANCES: tuple[Range, ...] = (
    *((d, d) for d in range(1, 5)), (5, 6), (7, 8), (9, 12), (13, 16), (17, 24), (25, 32), (33, 48), (49, 64), (65, 96),
    (97, 128), (129, 192), (193, 256), (257, 512), (513, 1024),
)  # fmt: skip
"""Distances in turns for curves."""

FACT_RANGES: tuple[Range, ...] = (*((n, n) for n in range(1, 9)), (9, 12), (13, 16), (17, 24), (25, 10**9))
"""Numbers of facts held."""


@dataclass(frozen=True)
class Findings:
    """The answers of a run, the data they belong to, and the resamples of its dialogues."""

    log: AnswerLog
    data: BenchmarkData
    bootstrap: Bootstrap

    @classmethod
    def of(cls, log: AnswerLog, data: BenchmarkData, seed: int) -> "Findings":
        """Resample the dialogues of each set."""
        strata = [[(group.name, number) for number in range(len(group.dialogues))] for group in data.sets]
        return cls(log, data, Bootstrap(strata, seed))

    def told(self, control: Control = "none") -> list[Answer]:
        """Return the answers to questions about what was told: they are what recall is measured by."""
        return [answer for answer in self.log.of(control) if answer.question is not None and answer.question.was_told]

    def never_told(self, control: Control = "none") -> list[Answer]:
        """Return the answers to questions about what was never told."""
        return [
            answer for answer in self.log.of(control) if answer.question is not None and not answer.question.was_told
        ]

    def share(
        self, answers: Iterable[Answer], counts: Callable[[Answer], bool] = lambda answer: answer.is_right
    ) -> Estimate | None:
        """Return the share of the answers that count, with its interval; None where there are no answers."""
        return self.bootstrap.mean(outcomes(answers, counts))


def outcomes(
    answers: Iterable[Answer], counts: Callable[[Answer], bool] = lambda answer: answer.is_right
) -> list[tuple[Hashable, float]]:
    """Return 1.0 or 0.0 for each answer, with its dialogue."""
    return [(dialogue_of(answer), float(counts(answer))) for answer in answers]


def dialogue_of(answer: Answer) -> Hashable:
    """Return what names the dialogue of an answer among those of all sets."""
    return answer.place.set, answer.place.dialogue


def distance_of(answer: Answer) -> int:
    """Return the distance of an answer to something that was told."""
    assert answer.question is not None
    assert answer.question.distance is not None
    return answer.question.distance


def facts_of(answer: Answer) -> int:
    """Return the number of facts held when a question was asked; 0 where not known."""
    return answer.question.facts_held if answer.question is not None else 0


def label(bounds: Range) -> str:
    """Return a range as people write it: "3", "5-7", "257 or more"."""
    low, high = bounds
    return str(low) if low == high else f"{low} or more" if high >= 10**9 else f"{low}-{high}"


def in_ranges(
    answers: Sequence[Answer], ranges: Sequence[Range], size: Callable[[Answer], int]
) -> dict[Range, list[Answer]]:
    """Sort answers by the range that their size falls in; only ranges that have any."""
    found = {bounds: [a for a in answers if bounds[0] <= size(a) <= bounds[1]] for bounds in ranges}
    return {bounds: inside for bounds, inside in found.items() if inside}


def plain(estimate: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as plain values, None as None."""
    return None if estimate is None else estimate.to_dict()
