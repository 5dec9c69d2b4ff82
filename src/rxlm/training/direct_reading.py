"""Reading before writing: turns answered from the encoded turns before them, token by token, instead of from slots.

To answer "where is Mary?" the decoder must look for Mary, the encoder must tell where she went beside her name, and
memory attention must keep the two together: while one of them is missing, nothing rewards the others. Reading the
encoded turns directly leaves memory attention out at first; what is left is learnt in some hundred steps, and slots
are then filled for a reader that knows what to look for (see dev/LOG.md, bAbI).

Shapes: L memory layers, N turns, B dialogues, T tokens of a turn, S slots, K slots that are read, D model dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.memory.slots.state import MemoryState
from rxlm.nn.attention import KeyValues
from rxlm.rxt.decoder import MemoryReading, RxTDecoder
from rxlm.training.turns import Turns


class Memories(NamedTuple):
    """What turns are answered from.

    Fields:
        slots: of M memories, (L, M, K, D).
        owners: which of them each turn reads, (N * B,).
        visible: True at the slots that the turn may see, (N * B, K); None: at all.
    """

    slots: Tensor
    owners: Tensor
    visible: Tensor | None = None

    @classmethod
    def one_a_turn(cls, slots: Tensor) -> "Memories":
        """Give each turn the memory (L, N * B, S, D) that has its number."""
        return cls(slots, torch.arange(slots.shape[1], device=slots.device))


class Readings:
    """Memories, projected to what a decoder reads, each once."""

    def __init__(self, decoder: RxTDecoder, memories: Memories) -> None:
        self.all = decoder.read_memory(MemoryState(memories.slots))
        self.owners, self.visible = memories.owners, memories.visible

    def of(self, turns: Tensor) -> MemoryReading:
        """Return what turns (R,), given by their numbers, read."""
        owners = self.owners[turns]
        mask = None if self.visible is None else self.visible[turns]
        return MemoryReading(tuple(KeyValues(own.keys[owners], own.values[owners], mask) for own in self.all.layers))


def encoded_turns_as_memory(turns: Turns, initial: Tensor, encoded: Tensor, written: Tensor) -> Memories:
    """Return a memory a dialogue, its initial slots and tokens of all its turns; a turn sees only earlier ones.

    Args:
        turns: the batch; turn n of dialogue b has the number n * B + b.
        initial: slots that conversations start from, (L, B, S, D); all turns see them.
        encoded: encoded data of all turns but the last, (L, N - 1, B, T, D).
        written: True at those of their tokens that an update would take up, (N - 1, B, T).
    """
    num_turns, size, _ = turns.ids.shape
    device = turns.ids.device
    slots = torch.cat((initial, encoded.transpose(1, 2).flatten(2, 3)), dim=2)
    conversation = torch.zeros(num_turns, size, dtype=torch.long, device=device)
    if turns.fresh is not None:
        conversation = turns.fresh.long().cumsum(0)
    number = torch.arange(num_turns, device=device)
    is_before = (number[:, None] > number[:-1])[..., None] & (conversation[:, None] == conversation[:-1])  # (N, N-1, B)
    tokens = is_before.transpose(1, 2)[..., None] & written.transpose(0, 1)  # (N, B, N-1, T)
    always = torch.ones(num_turns, size, initial.shape[2], dtype=torch.bool, device=device)
    visible = torch.cat((always, tokens.flatten(2)), dim=2).flatten(0, 1)
    return Memories(slots, torch.arange(size, device=device).repeat(num_turns), visible)
