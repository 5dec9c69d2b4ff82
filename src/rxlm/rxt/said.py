"""Which tokens of a finished interaction are query, thought and answer, and which only give it its form.

Shapes: B interactions, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rxlm.rxt.config import RxTAlphaTokenizerConfig


def said_mask(ids: Tensor, mask: Tensor | None, form: RxTAlphaTokenizerConfig) -> Tensor:
    """Return True at the tokens of query, thought and answer, (B, T).

    Args:
        ids: finished interactions, (B, T).
        mask: True at tokens that are not padding, (B, T); None where all are real.
        form: the tokens before query and answer, and the special tokens.
    """
    special = [value for name, value in form.to_dict().items() if name.endswith("_token_id") and value is not None]
    said = ~torch.isin(ids, ids.new_tensor(special))
    begin = ids.new_zeros(len(ids), 1)
    for prefix in (form.before_query, form.before_answer):
        of_form, begin = _first_occurrence(ids, prefix, begin)
        said &= ~of_form
    return said if mask is None else said & mask


def _first_occurrence(ids: Tensor, tokens: Sequence[int], begin: Tensor) -> tuple[Tensor, Tensor]:
    """Return True at the first occurrence of `tokens` in each row of `ids`, from `begin` (B, 1) on.

    Returns: the mask, (B, T), and the place after the occurrence, (B, 1), `begin` where there is none.
    """
    count, places = len(tokens), torch.arange(ids.shape[1], device=ids.device)
    if count > ids.shape[1]:
        return torch.zeros_like(ids, dtype=torch.bool), begin
    starts = (ids.unfold(1, count, 1) == ids.new_tensor(tokens)).all(-1)  # (B, T - count + 1)
    starts &= places[: starts.shape[1]] >= begin
    first, found = starts.int().argmax(1, keepdim=True), starts.any(1, keepdim=True)
    return found & (places >= first) & (places < first + count), torch.where(found, first + count, begin)
