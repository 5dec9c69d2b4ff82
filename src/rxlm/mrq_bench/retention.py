"""Retention: exact answer accuracy against the distance in turns between a fact and the question about it.

A model answers dialogues turn by turn, many at once; its memory takes in what it said itself. Controls take the memory
away: what a model scores without one it has not remembered.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from rxlm.data.records import Dialogue, Question
from rxlm.data.templates import query_ids
from rxlm.rxt.generation import Prompt, SamplingConfig
from rxlm.rxt.interaction import answers
from rxlm.rxt.models import RxTAlpha

Control = Literal["none", "empty"]
Score = Callable[[str, Question], bool]
GREEDY = SamplingConfig(temperature=0.0)

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


@torch.no_grad()
def answer_dialogues(
    model: RxTAlpha, dialogues: Sequence[Dialogue], score: Score, *, control: Control = "none", batch_size: int = 128
) -> Iterator[Answer]:
    """Let a model live through dialogues of one length, and yield its answers to their questions.

    Args:
        model: the model, with its tokenizer.
        dialogues: dialogues whose turns may carry questions; all have the same number of turns.
        score: says whether an answer is right.
        control: "none", or "empty": every turn is answered from the memory that a new conversation has.
        batch_size: dialogues answered at once.
    """
    if control not in get_args(Control):
        raise ValueError(f"control must be one of {', '.join(get_args(Control))}, got {control!r}.")
    for start in range(0, len(dialogues), batch_size):
        yield from _answer_batch(model, dialogues[start : start + batch_size], score, control)


def _answer_batch(model: RxTAlpha, dialogues: Sequence[Dialogue], score: Score, control: Control) -> Iterator[Answer]:
    tokenizer, tokens = model.needed_tokenizer(), model.tokenizer_config
    pad = tokens.pad_token_id
    first = memory = model.init_memory(len(dialogues), seed=0)
    for number in range(len(dialogues[0])):
        turns = [dialogue.turns[number] for dialogue in dialogues]
        rows = [[*query_ids(tokenizer, tokens, turn.query), tokens.answer_token_id] for turn in turns]
        lengths = [len(row) for row in rows]
        padded = [row + [pad] * (max(lengths) - len(row)) for row in rows]
        prompt = Prompt(torch.tensor(padded, device=model.device), lengths)
        columns = list(model.generate(prompt, memory, sampling=GREEDY))
        texts = model.stringify_batch(answers(columns, (tokens.eos_token_id,)))
        for dialogue, turn, text in zip(dialogues, turns, texts, strict=True):
            if turn.question is not None:
                right = score(text, turn.question)
                yield Answer(dialogue.source, number, turn.query, text, turn.question, right)
        memory = first if control == "empty" else model.update_memory(memory, *prompt.complete(columns, pad))


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
