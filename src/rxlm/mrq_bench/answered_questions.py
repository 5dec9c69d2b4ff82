"""Answers to the questions of dialogues, for recipes: exact accuracy by the distance between a fact and its question.

A model answers dialogues turn by turn, many at once; its memory takes in what it said itself. The control "empty" takes
the memory away: what a model scores without its memory it has not remembered. `rxlm.mrq_bench.results` has the whole
benchmark.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rxlm.data.records import Dialogue, Question
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.ranges import DISTANCE_RANGES, Range, in_ranges, label
from rxlm.mrq_bench.replies import replies_of
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.rxt.models import RxTAlpha

CONTROLS: tuple[Control, ...] = ("none", "empty")
"""With the model's memory, and without it."""

Score = Callable[[str, Question], bool]


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question with the model's answer: its dialogue and turn, what was asked and answered, whether that is right."""

    dialogue: str
    turn: int
    query: str
    answer: str
    question: Question
    is_right: bool


def answer_questions(
    model: RxTAlpha,
    dialogues: Sequence[Dialogue],
    score: Score,
    *,
    control: Control = "none",
    batch_size: int = 128,
    max_answer_tokens: int | None = None,
) -> Iterator[AnsweredQuestion]:
    """Let a model answer all turns of dialogues of any lengths, and yield its answers to their questions.

    Args:
        model: the model, with its tokenizer.
        dialogues: dialogues whose turns may carry questions.
        score: says whether an answer is right.
        control: what the model answers from, one of `RxTRespondent.controls`.
        batch_size: dialogues answered at once.
        max_answer_tokens: an answer ends after so many tokens, or at the model's longest interaction.
    """
    respondent = RxTRespondent(model, max_answer_tokens=max_answer_tokens or model.max_seq_len)
    for start in range(0, len(dialogues), batch_size):
        batch = list(dialogues[start : start + batch_size])
        for row, number, turn, text in replies_of(respondent, batch, control):
            if turn.question is not None:
                right = score(text, turn.question)
                yield AnsweredQuestion(batch[row].source, number, turn.query, text, turn.question, right)


def accuracy_by_distance(
    answered: Iterable[AnsweredQuestion], ranges: Sequence[Range] = DISTANCE_RANGES
) -> dict[str, tuple[float, int]]:
    """Return accuracy and number of questions for each range of distances that has any, by the name "1-4"."""
    by_range = in_ranges(answered, ranges, lambda answer: answer.question.distance or 0)
    return {
        label(bounds): (sum(answer.is_right for answer in inside) / len(inside), len(inside))
        for bounds, inside in by_range.items()
    }
