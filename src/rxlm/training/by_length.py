"""Rows of like length computed together, so that short ones are not padded to the longest of the batch.

Padding changes no result, only what it costs: turns of dialogues are about half as long as the longest in a batch.

Shapes: R rows, T tokens of the longest.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = 4
FEWEST_NUMBERS = 64 * 128  # a group's rows times the model's dimension: smaller products cost more than the padding


class RowGroup(NamedTuple):
    """Some rows of a batch: their numbers (R,), and the tokens of the longest."""

    rows: Tensor
    width: int


def all_rows(mask: Tensor) -> RowGroup:
    """Return all rows as one group."""
    return RowGroup(torch.arange(mask.shape[0], device=mask.device), mask.shape[1])


def by_length(mask: Tensor, dim: int) -> list[RowGroup]:
    """Divide rows into groups of like length; on a GPU, where it would wait for the lengths, all are one group.

    Args:
        mask: True at tokens, which stand at the start of a row, (R, T).
        dim: the model's dimension D.
    """
    groups = min(GROUPS, mask.shape[0] * dim // FEWEST_NUMBERS)
    if groups < 2 or mask.device.type != "cpu":
        return [all_rows(mask)]
    lengths = mask.sum(1)
    parts = lengths.argsort(stable=True).tensor_split(groups)
    return [RowGroup(rows, max(1, int(lengths[rows[-1]]))) for rows in parts]


def encode_by_length(encode: Callable[[Tensor, Tensor], Tensor], ids: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Return the encoded data (L, R, T, D) of rows, encoded group by group; zeros at padding after a group's width.

    Rows that are the same are encoded once: short turns come again and again. On a GPU all rows are encoded together.
    """
    if ids.device.type != "cpu":
        return encode(ids, mask)
    first, places = distinct(ids, mask)
    ids, mask, longest = ids[first], mask[first], ids.shape[1]
    groups = by_length(mask, dim)
    parts = [F.pad(encode(ids[rows, :width], mask[rows, :width]), (0, 0, 0, longest - width)) for rows, width in groups]
    order = torch.cat([group.rows for group in groups]).argsort()
    return torch.cat(parts, dim=1).index_select(1, order[places])


def distinct(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return one row's number for all rows with the same tokens, (U,), and which of these U each row is, (R,)."""
    found, places = torch.unique(ids.masked_fill(~mask, -1), dim=0, return_inverse=True)
    return places.new_empty(len(found)).scatter_(0, places, torch.arange(len(ids))), places
