"""Reading before writing: turns answered from the encoded turns before them, token by token, instead of from slots.

To answer "where is Mary?" the decoder must look for Mary, the encoder must tell where she went beside her name, and
memory attention must keep the two together: while one of them is missing, nothing rewards the others. Reading the
encoded turns directly leaves memory attention out at first; what is left is learnt in some hundred steps, and slots
are then filled for a reader that knows what to look for (see dev/LOG.md, bAbI).

Shapes: L memory layers, N turns, B dialogues, T tokens of a turn, S slots, D model dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.training.turns import Turns


class Memories(NamedTuple):
    """What rows are answered from: slots (L, R, K, D), and True at those that a row may see, (R, K); None: at all."""

    slots: Tensor
    visible: Tensor | None = None

    def of(self, rows: Tensor) -> "Memories":
        """Return those of some rows."""
        return Memories(self.slots[:, rows], None if self.visible is None else self.visible[rows])


def encoded_turns_as_memory(turns: Turns, initial: Tensor, encoded: Tensor) -> Memories:
    """Return, for each turn of each dialogue, the initial slots and all tokens of its conversation's earlier turns.

    Args:
        turns: the batch; turn n of dialogue b is row n * B + b of the result.
        initial: slots that conversations start from, (L, B, S, D).
        encoded: encoded data of all turns, (L, N, B, T, D).
    """
    num_turns, size, _ = turns.ids.shape
    earlier = encoded[:, :-1].transpose(1, 2).flatten(2, 3)
    slots = torch.cat((initial, earlier), dim=2)
    conversation = torch.zeros(num_turns, size, dtype=torch.long, device=turns.ids.device)
    if turns.fresh is not None:
        conversation = turns.fresh.long().cumsum(0)
    number = torch.arange(num_turns, device=turns.ids.device)
    is_before = (number[:, None] > number[:-1])[..., None] & (conversation[:, None] == conversation[:-1])  # (N, N-1, B)
    tokens = is_before.transpose(1, 2)[..., None] & turns.mask[:-1].transpose(0, 1)  # (N, B, N-1, T)
    always = torch.ones(num_turns, size, initial.shape[2], dtype=torch.bool, device=turns.ids.device)
    visible = torch.cat((always, tokens.flatten(2)), dim=2).flatten(0, 1)
    return Memories(slots[:, None].expand(-1, num_turns, -1, -1, -1).flatten(1, 2), visible)
