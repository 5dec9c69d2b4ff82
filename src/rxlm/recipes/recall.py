"""How much of what was told a model recalls, by distance in turns: figures while it trains, and a finished model's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rxlm.data.records import Dialogue, Question
from rxlm.data.scoring import Grade, grade
from rxlm.mrq_bench.answered_questions import AnsweredQuestion, Score, accuracy_by_distance, answer_questions
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.ranges import DISTANCE_RANGES, Range
from rxlm.mrq_bench.teacher_forcing import PredictedAnswer, perplexity, predict_answers
from rxlm.recipes.perplexities import is_follow_up
from rxlm.recipes.run_results import ResultTable
from rxlm.rxt.models import RxTAlpha
from rxlm.training import distributed


@dataclass(frozen=True)
class RecallTest:
    """Asks dialogues about facts, and counts answers that name the right value and no other of its kind.

    Fields:
        values: of each kind of fact.
        ranges: of distances from a fact to its question, in turns.
        max_answer_tokens: the longest answer; None: the model's longest interaction.
    """

    values: Mapping[str, Sequence[str]]
    ranges: Sequence[Range] = DISTANCE_RANGES
    max_answer_tokens: int | None = None

    def by_distance(
        self, model: RxTAlpha, dialogues: Sequence[Dialogue], control: Control = "none"
    ) -> Mapping[str, tuple[float, int]]:
        """Return the share of right answers and the number of questions, by range of distances."""
        return accuracy_by_distance(self._answered(model, dialogues, control), self.ranges)

    def figures(self, model: RxTAlpha, dialogues: Sequence[Dialogue]) -> Mapping[str, float]:
        """Return the mean of all shares first, then recall by range and of what was never told, and perplexity.

        A question about what nobody said is answered rightly by saying so.
        """
        answered = self._answered(model, dialogues)
        shares = {f"recall/{name}": share for name, (share, _) in accuracy_by_distance(answered, self.ranges).items()}
        never_told = [answer.is_right for answer in answered if not answer.question.was_told]
        if never_told:
            shares["recall/never told"] = fmean(never_told)
        perplexities = {"perplexity": perplexity(predict_answers(model, dialogues), is_follow_up)}
        return {"recall": fmean(shares.values())} | shares | perplexities

    def graded(self, model: RxTAlpha, dialogues: Sequence[Dialogue]) -> Mapping[str, tuple[float, int]]:
        """Return shares of answers, each with the number of questions, and the perplexity of the other answers.

        "never told": of questions about what nobody said, those that are answered by saying so. "recall": of the
        others, those that are right. "stale": of those about what has changed, those with an earlier value.
        "perplexity": of the reference answers to everything else, after the first turn.
        """
        answered = [
            (each.question, grade(each.answer, each.question, self.values[each.question.kind]))
            for each in self._answered(model, dialogues)
        ]
        shares = {
            "never told": [found is Grade.RIGHT for question, found in answered if not question.was_told],
            "recall": [found is Grade.RIGHT for question, found in answered if question.was_told],
            "stale": [found is Grade.STALE for question, found in answered if question.stale],
        }
        predicted = perplexity(predict_answers(model, dialogues), _is_of_neither)
        return {name: (fmean(each), len(each)) for name, each in shares.items() if each} | {
            "perplexity": (predicted, len(dialogues))
        }

    def table(self, model: RxTAlpha, dialogues: Mapping[int, Sequence[Dialogue]], title: str, note: str) -> ResultTable:
        """Return recall on dialogues by their number of turns; on the first ones also with an empty memory."""
        rows: dict[str, Mapping[str, tuple[float, int]]] = {}
        for turns, asked in dialogues.items():
            controls: tuple[Control, ...] = ("none",) if rows else ("none", "empty")
            for control in controls:
                name = f"{turns} turns" if control == "none" else f"{turns} turns, empty memory"
                rows[name] = self.by_distance(model, asked, control)
        ranges = list(dict.fromkeys(name for row in rows.values() for name in row))
        cells = tuple((name, *(_cell(row.get(each)) for each in ranges)) for name, row in rows.items())
        return ResultTable(title, ("dialogues of", *ranges), cells, note)

    def _answered(
        self, model: RxTAlpha, dialogues: Sequence[Dialogue], control: Control = "none"
    ) -> Sequence[AnsweredQuestion]:
        return answer_together(
            model, dialogues, self._is_right, control=control, max_answer_tokens=self.max_answer_tokens
        )

    def _is_right(self, answer: str, question: Question) -> bool:
        return grade(answer, question, self.values[question.kind]) == Grade.RIGHT


def answer_together(
    model: RxTAlpha, dialogues: Sequence[Dialogue], score: Score, **options: Any
) -> list[AnsweredQuestion]:
    """Return what `answer_questions` yields; of the processes of a training each answers a part of the dialogues.

    An initial memory that is drawn is drawn by row of each part.
    """
    own = dialogues[distributed.rank() :: distributed.world_size()]
    return distributed.gathered(list(answer_questions(model.eval(), own, score, **options)))


def _is_of_neither(answer: PredictedAnswer) -> bool:
    """Whether a follow-up asks neither for what was never told nor for what has changed."""
    question = answer.turn.question
    return is_follow_up(answer) and (question is None or (question.was_told and not question.stale))


def _cell(figure: tuple[float, int] | None) -> str:
    return "" if figure is None else f"{figure[0]:.1%} ({figure[1]})"
