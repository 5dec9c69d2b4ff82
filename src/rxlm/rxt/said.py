"""What was said in a finished interaction, apart from the tokens that give every interaction its form.

Shapes: B interactions, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rxlm.rxt.config import RxTAlphaTokenizerConfig


def said_mask(ids: Tensor, mask: Tensor | None, form: RxTAlphaTokenizerConfig) -> Tensor:
    """Return True at the tokens of query and answer, (B, T).

    Args:
        ids: finished interactions, (B, T).
        mask: True at tokens that are not padding, (B, T); None where all are real.
        form: what stands before query and answer, and what an answer ends with.
    """
    said = ids != form.eos_token_id
    for prefix in (form.before_query, form.before_answer):
        said &= ~_occurrences(ids, prefix)
    return said if mask is None else said & mask


def _occurrences(ids: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return True at the places of `ids` (B, T) that belong to an occurrence of `tokens` in a row, (B, T)."""
    found = torch.zeros_like(ids, dtype=torch.bool)
    count = len(tokens)
    if count > ids.shape[1]:
        return found
    starts = (ids.unfold(1, count, 1) == ids.new_tensor(tokens)).all(-1)  # (B, T - count + 1)
    for offset in range(count):
        found[:, offset : offset + starts.shape[1]] |= starts
    return found
