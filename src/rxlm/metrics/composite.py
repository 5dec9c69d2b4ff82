"""The composite score of an answer, from 0 to 10: is it right, and how close to reference and conversation?

The papers report such a score (mean, least and greatest over dialogues of one turn and eight that follow) without its
formula. This formula is ours: the benchmark reports the score, and memory reinforcement learning uses it as the reward.
Shapes: B answers, D embedding dimension. A term that does not apply to an answer is NaN.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

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
weigh most, because the others hardly notice a wrong value in a right sentence.
"""

SCALE = 10.0


def score(terms: Mapping[str, Tensor], weights: Mapping[str, float] = WEIGHTS, scale: float = SCALE) -> Tensor:
    """Return `scale` times the weighted mean of the terms that apply, NaN where none does; (B,) in float64.

    Args:
        terms: by name, (B,) each.
        weights: by name, above 0.
    """
    values = torch.stack([values.double() for values in terms.values()])
    weight = torch.tensor([weights[name] for name in terms], dtype=torch.float64, device=values.device)[:, None]
    applies = ~values.isnan()
    return scale * (weight * values).where(applies, 0).sum(0) / (weight * applies).sum(0)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of embeddings (B, D), from 0 (at right angles, opposed, or one of them 0) to 1; (B,)."""
    return torch.cosine_similarity(one, other, dim=-1).clamp(0, 1)


def likeness(lengths: Sequence[int], others: Sequence[int]) -> Tensor:
    """Return the shorter length over the longer one, 1 where both are 0; (B,)."""
    pairs = zip(lengths, others, strict=True)
    return torch.tensor([min(pair) / max(pair) if max(pair) else 1.0 for pair in pairs])
