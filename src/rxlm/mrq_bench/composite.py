"""A reward of 0 to 10 for every turn of a dialogue: how good an answer is, in words and meaning, in its conversation.

The papers report such a score, its mean, least and greatest, over dialogues of one turn and eight that follow; they do
not print its formula. This is ours. Shapes: T turns, D embedding dimension.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from rxlm.data.scoring import normalise

WEIGHTS: Mapping[str, float] = {
    "exact": 0.40,
    "bleu_reference": 0.20,
    "cosine_reference": 0.15,
    "length": 0.10,
    "cosine_previous": 0.05,
    "cosine_history": 0.05,
    "bleu_previous": 0.05,
}
"""Weight of each term, each from 0 to 1; terms that do not apply are left out and the others weigh more.

exact: the answer to a question is right (for turns with a question). bleu_reference, cosine_reference: against the
reference answer. length: the shorter of answer and reference over the longer, in words. cosine_previous,
bleu_previous: against the turn before. cosine_history: against the mean embedding of all turns before. Exact answers
weigh most, because the others hardly see a wrong value in a right sentence.
"""

SCALE = 10.0
TURNS_AFTER_THE_FIRST = 8

SentenceBleu = Callable[[Sequence[str], Sequence[str]], list[float]]
Embed = Callable[[Sequence[str]], Tensor]

Terms = dict[str, float]


def turn_terms(
    queries: Sequence[str],
    answers: Sequence[str],
    references: Sequence[str],
    are_right: Sequence[bool | None],
    *,
    bleu: SentenceBleu,
    embed: Embed,
) -> list[Terms]:
    """Return the terms of each turn after the first, from a dialogue as the model has led it.

    Args:
        queries, answers, references: of the turns, T of each.
        are_right: whether the answer to a question is right; None for turns without one.
        bleu: sentence BLEU of candidates against one reference each.
        embed: embeddings of texts, (texts, D).
    """
    turns = [f"{query} {answer}" for query, answer in zip(queries, answers, strict=True)]
    embedded = embed([*answers, *references, *turns])
    said, wanted, before = embedded.split(len(turns))
    history = before.cumsum(0) / torch.arange(1, len(turns) + 1)[:, None]
    bleu_reference, bleu_previous = bleu(answers[1:], references[1:]), bleu(answers[1:], turns[:-1])
    columns = {
        "bleu_reference": bleu_reference,
        "bleu_previous": bleu_previous,
        "cosine_reference": _cosines(said[1:], wanted[1:]),
        "cosine_previous": _cosines(said[1:], before[:-1]),
        "cosine_history": _cosines(said[1:], history[:-1]),
        "length": [_likeness(*pair) for pair in zip(answers[1:], references[1:], strict=True)],
    }
    terms = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for row, right in zip(terms, are_right[1:], strict=True):
        if right is not None:
            row["exact"] = float(right)
    return terms


def score(terms: Terms) -> float:
    """Return the weighted mean of the terms that apply, on a scale of 0 to 10."""
    weight = sum(WEIGHTS[name] for name in terms)
    return SCALE * sum(WEIGHTS[name] * value for name, value in terms.items()) / weight


def _cosines(one: Tensor, other: Tensor) -> list[float]:
    return torch.cosine_similarity(one, other, dim=-1).clamp(0, 1).tolist()


def _likeness(answer: str, reference: str) -> float:
    lengths = [len(normalise(text).split()) for text in (answer, reference)]
    return min(lengths) / max(lengths) if max(lengths) else 1.0
