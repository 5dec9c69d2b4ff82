"""What the reports on recall share: which answers count, and their shares with intervals."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from rxlm.mrq_bench.answers import Answer, AnswerLog
from rxlm.mrq_bench.benchmark_data import BenchmarkData
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.statistics import Bootstrap, Estimate


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


def plain(estimate: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as plain values, None as None."""
    return None if estimate is None else estimate.to_dict()
