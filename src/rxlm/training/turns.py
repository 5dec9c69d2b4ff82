"""The turns of a batch of dialogues in one tensor.

Shapes: N turns, B dialogues, T tokens of the longest turn, K recalled turns.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.data.batches import DialogueBatch
from rxlm.data.streams import StreamBatch


class Recalls(NamedTuple):
    """Turns to be told from memory, as numbers n * B + b of turn n of dialogue b.

    Fields:
        readers: from whose memory, the one before that turn, (K,).
        sources: which turn is told, (K,): an earlier one of the same conversation.
    """

    readers: Tensor
    sources: Tensor


@dataclass(frozen=True)
class Turns:
    """All turns of a batch, padded to the longest.

    Fields:
        ids, mask, answer_mask: (N, B, T), as in `TurnBatch`.
        fresh: True at the turns that begin a conversation, (N, B); None where only the first ones do.
        recalls: turns to be told from memory, if any are.
    """

    ids: Tensor
    mask: Tensor
    answer_mask: Tensor
    fresh: Tensor | None = None
    recalls: Recalls | None = None

    @classmethod
    def of(cls, batch: DialogueBatch | StreamBatch) -> Self:
        """Stack a batch's turns."""
        width = max(turn.ids.shape[1] for turn in batch.turns)

        def stacked(field: str) -> Tensor:
            rows = [getattr(turn, field) for turn in batch.turns]
            return torch.stack([F.pad(row, (0, width - row.shape[1])) for row in rows])

        fresh = batch.fresh if isinstance(batch, StreamBatch) else None
        return cls(stacked("ids"), stacked("mask"), stacked("answer_mask"), fresh)

    @property
    def num_turns(self) -> int:
        """Turns N."""
        return self.ids.shape[0]

    @property
    def batch_size(self) -> int:
        """Dialogues B."""
        return self.ids.shape[1]

    def first(self, count: int) -> Self:
        """Return the first `count` dialogues."""
        fresh = None if self.fresh is None else self.fresh[:, :count]
        return type(self)(self.ids[:, :count], self.mask[:, :count], self.answer_mask[:, :count], fresh)

    def to(self, device: torch.device | str) -> Self:
        """Return the turns on a device."""
        fresh = None if self.fresh is None else self.fresh.to(device)
        return type(self)(self.ids.to(device), self.mask.to(device), self.answer_mask.to(device), fresh)
