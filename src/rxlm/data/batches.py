"""Batches of interactions and dialogues: padded tensors, and masks of the tokens to predict.

Shapes: B rows (interactions or dialogues), T tokens of the longest row.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from rxlm.data.records import Dialogue, Interaction


@dataclass(frozen=True)
class TurnBatch:
    """One interaction per row, padded at the end.

    Fields:
        ids: token ids (B, T).
        mask: True at tokens that are not padding, (B, T); a row that is all padding has no interaction here.
        answer_mask: True at the tokens to predict, (B, T): the answer and [EOS]; with a thought, also the thought and
            [A]. Logits at position j - 1 predict the token at j.
        value_mask: True at value tokens and the token after each, (B, T). A value is what the query asks for; the token
            after it shows that the value has ended. None: not known.
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

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        values = None if self.value_mask is None else self.value_mask.to(device)
        return type(self)(self.ids.to(device), self.mask.to(device), self.answer_mask.to(device), values)


@dataclass(frozen=True)
class TurnsBatch:
    """Conversations side by side, turn by turn.

    Fields:
        turns: one `TurnBatch` per turn, each padded to its own longest row.
    """

    turns: tuple[TurnBatch, ...]

    @property
    def batch_size(self) -> int:
        """Number of conversations, B."""
        return self.turns[0].batch_size

    @property
    def num_turns(self) -> int:
        """Number of turns, of the longest conversation."""
        return len(self.turns)

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are not padding."""
        return sum(turn.num_tokens for turn in self.turns)

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        return replace(self, turns=tuple(turn.to(device) for turn in self.turns))


@dataclass(frozen=True)
class DialogueBatch(TurnsBatch):
    """Whole dialogues; a dialogue that has ended has turns of padding only.

    Fields:
        dialogues: the dialogues themselves, one per row; evaluation needs their questions.
        first_turn: turns before this one were in earlier batches; they are here for what comes after them to be read.
        goes_on: whether the next batch has further turns of the same dialogues.
    """

    dialogues: tuple[Dialogue, ...]
    first_turn: int = 0
    goes_on: bool = False

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are not padding, of the turns that earlier batches did not have."""
        return sum(turn.num_tokens for turn in self.turns[self.first_turn :])


@dataclass(frozen=True)
class StreamBatch(TurnsBatch):
    """The next turns of B conversations.

    Fields:
        fresh: True at turns that begin a conversation and so start from the initial memory, (N, B) for N turns. A row
            whose first turn is not fresh continues from the memory at the end of the previous batch.
        interactions: the turns themselves, by row.
    """

    fresh: Tensor
    interactions: tuple[tuple[Interaction, ...], ...]

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        return replace(super().to(device), fresh=self.fresh.to(device))
