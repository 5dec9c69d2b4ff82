"""Batches of interactions and dialogues: padded tensors, and which of their tokens are to be predicted.

Shapes: B rows (interactions or dialogues), T tokens of the longest row.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from rxlm.data.records import Dialogue


@dataclass(frozen=True)
class TurnBatch:
    """One interaction a row, padded at the end.

    Fields:
        ids: token ids (B, T).
        mask: True at tokens that are not padding, (B, T); a row without a single one has no interaction here.
        answer_mask: True at the tokens that the model has to predict, (B, T): the answer and [EOS]; the thought and
            [A], too, where there is one. Logits at position j - 1 predict the token at j.
        value_mask: True at the answer's tokens that name what its query asks for, and at the one behind, with which a
            value ends, (B, T); None where it is not known.
    """

    ids: Tensor
    mask: Tensor
    answer_mask: Tensor
    value_mask: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """Number of rows, B."""
        return self.ids.shape[0]

    @property
    def present(self) -> Tensor:
        """True where a row has an interaction, (B,)."""
        return self.mask.any(dim=1)

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are not padding."""
        return int(self.mask.sum())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the batch on a device."""
        return self._each(lambda values: values.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory, from which a GPU copies in the background."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = None if self.value_mask is None else change(self.value_mask)
        return type(self)(change(self.ids), change(self.mask), change(self.answer_mask), values)


InteractionBatch = TurnBatch
"""Interactions that are not turns of a dialogue, as stage 2 takes them."""


@dataclass(frozen=True)
class DialogueBatch:
    """Dialogues side by side, turn by turn; one that has ended goes on with turns of nothing but padding.

    Fields:
        turns: one `TurnBatch` a turn, each padded to its own longest row.
        dialogues: what the rows were made from, with what evaluation needs to know about them.
    """

    turns: tuple[TurnBatch, ...]
    dialogues: tuple[Dialogue, ...]

    @property
    def batch_size(self) -> int:
        """Number of dialogues, B."""
        return len(self.dialogues)

    @property
    def num_turns(self) -> int:
        """Turns of the longest dialogue."""
        return len(self.turns)

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are not padding."""
        return sum(turn.num_tokens for turn in self.turns)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the batch on a device."""
        return replace(self, turns=tuple(turn.to(device, non_blocking=non_blocking) for turn in self.turns))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory, from which a GPU copies in the background."""
        return replace(self, turns=tuple(turn.pin_memory() for turn in self.turns))
