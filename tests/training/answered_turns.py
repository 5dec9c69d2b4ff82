"""Answered turns, for tests of rewards."""

from collections.abc import Sequence

from rxlm.data.records import Question
from rxlm.data.tokenizer import encode_text
from rxlm.training.mrl.rewards import Pair, TurnAnswers
from text_models import tiny_tokenizer


def answered(
    answers: Sequence[str],
    references: Sequence[str] | None = None,
    *,
    turn: int = 0,
    questions: Sequence[Question | None] | None = None,
    history: Sequence[Sequence[Pair]] | None = None,
    queries: Sequence[str] | None = None,
) -> TurnAnswers:
    references = answers if references is None else references
    return TurnAnswers(
        turn,
        ["What is my dog called?"] * len(answers) if queries is None else queries,
        answers,
        references,
        [encode_text(tiny_tokenizer(), answer) for answer in answers],
        [encode_text(tiny_tokenizer(), reference) for reference in references],
        [None] * len(answers) if questions is None else questions,
        [[]] * len(answers) if history is None else history,
    )
