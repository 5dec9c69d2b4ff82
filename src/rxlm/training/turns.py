"""The turns of a batch of dialogues in one tensor.

Shapes: N turns, B dialogues, T tokens of the longest turn, K turns that keep to a language model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.data.batches import DialogueBatch, StreamBatch
from rxlm.data.records import Interaction


class Kept(NamedTuple):
    """Turns in which a language model is to answer as it would without a memory.

    Fields:
        turns: their numbers n * B + b, (K,).
        ids, mask: their tokens, and which of them are real, (K, T).
    """

    turns: Tensor
    ids: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Turns:
    """All turns of a batch, padded to the longest.

    Fields:
        ids, mask, answer_mask: (N, B, T), as in `TurnBatch`.
        fresh: True at the turns that begin a conversation, (N, B); None where only the first ones do.
        asks: True at turns that ask for something told before, (N, B); None where it is not known.
        value_mask: as in `TurnBatch`, (N, B, T).
        is_reference: False at turns whose answer was said and is no reference, (N, B); None where it is not known.
        kept: turns that keep to the language model, if any do.
    """

    ids: Tensor
    mask: Tensor
    answer_mask: Tensor
    fresh: Tensor | None = None
    asks: Tensor | None = None
    is_reference: Tensor | None = None
    value_mask: Tensor | None = None
    kept: Kept | None = None

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

        def marked(mark: Callable[[Interaction], bool]) -> Tensor | None:
            if len(rows) != batch.turns[0].batch_size:
                return None  # a batch that was made by hand
            return torch.tensor([[n < len(row) and mark(row[n]) for row in rows] for n in range(batch.num_turns)])

        return cls(
            stacked("ids"),
            stacked("mask"),
            stacked("answer_mask"),
            fresh,
            asks=marked(lambda turn: turn.question is not None),
            is_reference=marked(lambda turn: turn.is_reference),
            value_mask=None if any(turn.value_mask is None for turn in batch.turns) else stacked("value_mask"),
        )

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
        """Return turns with their tensors changed, without what was drawn for a step."""
        changed: dict[str, Any] = {"kept": None}
        for name in ("ids", "mask", "answer_mask", "fresh", "asks", "is_reference", "value_mask"):
            value = getattr(self, name)
            changed[name] = None if value is None else change(value)
        return replace(self, **changed)
