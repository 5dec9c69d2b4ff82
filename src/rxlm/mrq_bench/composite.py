"""The composite score (`rxlm.metrics.composite`) of a dialogue as the model has led it, over words.

Shapes: T turns, D embedding dimension.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rxlm.data.words import normalise
from rxlm.metrics.composite import cosine, likeness

TURNS_AFTER_THE_FIRST = 8

SentenceBleu = Callable[[Sequence[str], Sequence[str]], list[float]]
Embed = Callable[[Sequence[str]], Tensor]

Terms = dict[str, Tensor]


def turn_terms(
    queries: Sequence[str],
    answers: Sequence[str],
    references: Sequence[str],
    are_right: Sequence[bool | None],
    *,
    bleu: SentenceBleu,
    embed: Embed,
) -> Terms:
    """Return the terms of the turns after the first, (T - 1,) each, NaN for "exact" where nothing is asked.

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
    return {
        "exact": torch.tensor([float("nan") if right is None else float(right) for right in are_right[1:]]),
        "bleu_reference": torch.tensor(bleu(answers[1:], references[1:])),
        "bleu_previous": torch.tensor(bleu(answers[1:], turns[:-1])),
        "cosine_reference": cosine(said[1:], wanted[1:]),
        "cosine_previous": cosine(said[1:], before[:-1]),
        "cosine_history": cosine(said[1:], history[:-1]),
        "length": likeness(_words(answers[1:]), _words(references[1:])),
    }


def _words(texts: Sequence[str]) -> list[int]:
    return [len(normalise(text).split()) for text in texts]
