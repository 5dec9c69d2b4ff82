"""Retention in a few lines, for recipes: exact accuracy against the distance between a fact and its question.

A model answers dialogues turn by turn, many at once; its memory takes in what it said itself. The control takes the
memory away: what a model scores without one it has not remembered. The whole benchmark is `rxlm.mrq_bench.results`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rxlm.data.records import Dialogue, Question
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.mrq_bench.walking import walk
from rxlm.rxt.models import RxTAlpha

Control = Literal["none", "empty"]
Score = Callable[[str, Question], bool]

DISTANCE_RANGES = ((1, 4), (5, 7), (8, 16), (17, 32), (33, 64), (65, 128), (129, 256))


@dataclass(frozen=True)
class Answer:
    """One answered question: where it stood, what was asked and said, and whether that was right."""

    dialogue: str
    turn: int
    query: str
    answer: str
    question: Question
    is_right: bool


def answer_dialogues(
    model: RxTAlpha,
    dialogues: Sequence[Dialogue],
    score: Score,
    *,
    control: Control = "none",
    batch_size: int = 128,
    max_answer_tokens: int | None = None,
) -> Iterator[Answer]:
    """Let a model live through dialogues of any lengths, and yield its answers to their questions.

    Args:
        model: the model, with its tokenizer.
        dialogues: dialogues whose turns may carry questions.
        score: says whether an answer is right.
        control: "none", or "empty": every turn is answered from the memory that a new conversation has.
        batch_size: dialogues answered at once.
        max_answer_tokens: an answer ends after so many tokens, or at the model's longest interaction.
    """
    if control not in get_args(Control):
        raise ValueError(f"control must be one of {', '.join(get_args(Control))}, got {control!r}.")
    respondent = RxTRespondent(model, max_answer_tokens=max_answer_tokens or model.max_seq_len)
    for start in range(0, len(dialogues), batch_size):
        batch = list(dialogues[start : start + batch_size])
        for row, number, turn, text in walk(respondent, batch, control):
            if turn.question is not None:
                right = score(text, turn.question)
                yield Answer(batch[row].source, number, turn.query, text, turn.question, right)


def accuracy_by_distance(
    answered: Iterable[Answer], ranges: Sequence[tuple[int, int]] = DISTANCE_RANGES
) -> dict[str, tuple[float, int]]:
    """Return accuracy and number of questions for each range of distances that has any, by the name "1-4"."""
    counts: dict[str, list[bool]] = {}
    for answer in answered:
        distance = answer.question.distance
        for low, high in ranges:
            if distance is not None and low <= distance <= high:
                counts.setdefault(f"{low}-{high}", []).append(answer.is_right)
    names = [f"{low}-{high}" for low, high in ranges]
    return {name: (sum(counts[name]) / len(counts[name]), len(counts[name])) for name in names if name in counts}
