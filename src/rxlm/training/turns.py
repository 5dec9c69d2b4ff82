"""The turns of a batch of dialogues in one tensor.

Shapes: N turns, B dialogues, T tokens of the longest turn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.data.batches import DialogueBatch, StreamBatch


@dataclass(frozen=True)
class Turns:
    """All turns of a batch, padded to the longest.

    Fields:
        ids, mask, answer_mask: (N, B, T), as in `TurnBatch`.
        fresh: True at the turns that begin a conversation, (N, B); None where only the first ones do.
        is_reference: False at turns whose answer was said and is no reference, (N, B); None where it is not known.
    """

    ids: Tensor
    mask: Tensor
    answer_mask: Tensor
    fresh: Tensor | None = None
    is_reference: Tensor | None = None

    @classmethod
    def of(cls, batch: DialogueBatch | StreamBatch) -> Self:
        """Stack a batch's turns."""
        width = max(turn.ids.shape[1] for turn in batch.turns)

        def stacked(field: str) -> Tensor:
            rows = [getattr(turn, field) for turn in batch.turns]
            return torch.stack([F.pad(row, (0, width - row.shape[1])) for row in rows])

        if isinstance(batch, StreamBatch):
            fresh, rows = batch.fresh, batch.interactions
        else:
            fresh, rows = None, tuple(dialogue.turns for dialogue in batch.dialogues)

        is_reference = None
        if len(rows) == batch.turns[0].batch_size:  # else the batch was made by hand
            is_reference = torch.tensor(
                [[n < len(row) and row[n].is_reference for row in rows] for n in range(batch.num_turns)]
            )
        return cls(stacked("ids"), stacked("mask"), stacked("answer_mask"), fresh, is_reference)

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
        return self._each(lambda values: values[:, :count])

    def to(self, device: torch.device | str) -> Self:
        """Return the turns on a device."""
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {}
        for name in ("ids", "mask", "answer_mask", "fresh", "is_reference"):
            value = getattr(self, name)
            changed[name] = None if value is None else change(value)
        return replace(self, **changed)
