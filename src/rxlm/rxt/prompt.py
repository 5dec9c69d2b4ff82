"""A batch of prompts, padded at the end.

Shapes: B rows, T tokens of the longest prompt.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.data.padding import padded


class Prompt(NamedTuple):
    """A batch of prompts padded at the end: `ids` (B, T) and the number of real tokens of each row."""

    ids: Tensor
    lengths: list[int]

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[int]], pad_token_id: int, device: torch.device) -> "Prompt":
        """Return the prompts of some rows of token ids."""
        return cls(padded(rows, pad_token_id, device=device)[0], [len(row) for row in rows])

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor | None, pad_token_id: int) -> "Prompt":
        """Move the real tokens of `ids` (B, T), where `mask` (B, T) is True, to the start of each row."""
        if mask is None:
            return cls(ids, [ids.shape[1]] * ids.shape[0])
        if mask.shape != ids.shape:
            raise ValueError(f"The attention mask has shape {tuple(mask.shape)}, the token ids {tuple(ids.shape)}.")
        mask = mask.bool()
        lengths = mask.sum(1).tolist()
        order = (~mask).long().argsort(dim=1, stable=True)
        packed = ids.masked_fill(~mask, pad_token_id).gather(1, order)
        return cls(packed[:, : max(lengths)], lengths)

    def after(self, unread: Tensor) -> "Prompt":
        """Return the prompts with ids (B, E) before each, negative ones left out."""
        ids = torch.cat((unread, self.ids), 1)
        places = torch.arange(self.ids.shape[1], device=ids.device)
        real = places < torch.tensor(self.lengths, device=ids.device)[:, None]
        return Prompt.of(ids.clamp(min=0), torch.cat((unread >= 0, real), 1), 0)

    def rows(self) -> list[list[int]]:
        """Return the token ids of each prompt."""
        return [row[:length] for row, length in zip(self.ids.tolist(), self.lengths, strict=True)]
