"""Keys and values that an attention made, or is to make, of something that many queries attend to.

Shapes: B batch, S places, T query tokens, D model dimension, Hkv key/value heads of dimension d.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor


class KeyValues(NamedTuple):
    """Projected keys and values of one attention, (B, Hkv, S, d) each.

    `mask` is True at keys that may be seen: by all queries, (B, S), by each of T, (B, T, S), or by those of each
    key/value head, (B, Hkv, 1 or T, S); None: all keys. Of numbers, it is what is added to the scores. `attend` takes
    the place of attention where no mask says cheaply what is seen: of queries (B, Hq, T, d), keys and values it makes
    what the heads read, (B, Hq, T, d).
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    @property
    def batch_size(self) -> int:
        """Rows B."""
        return self.keys.shape[0]

    @property
    def mask_of_heads(self) -> Tensor:
        """The mask as (B, 1 or Hkv, 1 or T, S)."""
        assert self.mask is not None
        if self.mask.dim() == 4:
            return self.mask
        return self.mask[:, None, None, :] if self.mask.dim() == 2 else self.mask[:, None]

    def select(self, rows: Tensor | Sequence[int], mask: Tensor | None = None) -> "KeyValues":
        """Return some rows, in the order given; `mask` replaces theirs."""
        return KeyValues(self.keys[rows], self.values[rows], _selected(self.mask, rows, mask))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> "KeyValues":
        """Put the rows of several one after another."""
        keys, values = (torch.cat([getattr(part, name) for part in parts]) for name in ("keys", "values"))
        return cls(keys, values, _joined_masks([part.mask for part in parts]))


class KeyValueSource(NamedTuple):
    """What the layer that attends to it makes keys and values of: `source`, (B, S, D).

    `rows` (R,): which of them each row of the batch attends to, so that rows can share one; None: each its own. `mask`
    as in `KeyValues`, of the rows that attend.
    """

    source: Tensor
    rows: Tensor | None = None
    mask: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """Rows that attend."""
        return self.source.shape[0] if self.rows is None else self.rows.shape[0]

    def select(self, rows: Tensor | Sequence[int], mask: Tensor | None = None) -> "KeyValueSource":
        """Return some of the rows that attend, in the order given; `mask` replaces theirs."""
        mask = _selected(self.mask, rows, mask)
        if self.rows is not None:
            return KeyValueSource(self.source, self.rows[rows], mask)
        return KeyValueSource(self.source[rows], None, mask)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> "KeyValueSource":
        """Put the rows of several one after another."""
        sources = [part.source if part.rows is None else part.source[part.rows] for part in parts]
        return cls(torch.cat(sources), None, _joined_masks([part.mask for part in parts]))


def _selected(mask: Tensor | None, rows: Tensor | Sequence[int], replacement: Tensor | None) -> Tensor | None:
    if replacement is not None:
        return replacement
    return None if mask is None else mask[rows]


def _joined_masks(masks: Sequence[Tensor | None]) -> Tensor | None:
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    if len(given) != len(masks):
        raise ValueError("Either all keys and values that are joined have a mask, or none has.")
    return torch.cat(given)
