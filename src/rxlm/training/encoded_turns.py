"""Encoded turns instead of a memory: a turn is answered from the tokens of the encoded turns before it.

To answer "where is Mary?" the decoder must look for Mary, the encoder must tell where she went beside her name, and
memory attention must keep the two together: while one of them is missing, nothing rewards the others. Attending to the
encoded turns themselves leaves memory attention out at first; what is left is learnt in some hundred steps, and slots
are then filled for a decoder that knows what to look for (see dev/LOG.md, bAbI).

Shapes: L memory layers, N turns, B dialogues, T tokens of a turn, S places of a memory.
"""

import torch
from torch import Tensor

from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.key_values import KeyValueSource
from rxlm.shapes import Float
from rxlm.training.turns import Turns


def read_encoded_turns(turns: Turns, initial: MemoryState, encoded: Float[Tensor, "L n B T D"]) -> MemoryReading:
    """Return what each turn attends to, N * B rows: the initial memory, and the tokens of earlier turns.

    Args:
        turns: the batch; turn n of dialogue b is row n * B + b.
        initial: the memory that conversations start from; all turns see it.
        encoded: encoded data of all turns but the last, (L, n, B, T, D) with n = N - 1.
    """
    num_turns, size, _ = turns.ids.shape
    device = turns.ids.device
    conversation = torch.zeros(num_turns, size, dtype=torch.long, device=device)
    if turns.fresh is not None:
        conversation = turns.fresh.long().cumsum(0)
    number = torch.arange(num_turns, device=device)
    is_before = (number[:, None] > number[:-1])[..., None] & (conversation[:, None] == conversation[:-1])  # (N, N-1, B)
    tokens = (is_before.transpose(1, 2)[..., None] & turns.mask[:-1].transpose(0, 1)).flatten(2)  # (N, B, (N - 1) * T)
    owners = torch.arange(size, device=device).repeat(num_turns)
    layers = []
    for own, seen in zip(initial.read().layers, encoded.transpose(1, 2).flatten(2, 3), strict=True):
        assert isinstance(own, KeyValueSource)
        always = torch.ones(num_turns, size, own.source.shape[1], dtype=torch.bool, device=device)
        visible = torch.cat((always, tokens), dim=2).flatten(0, 1)
        layers.append(KeyValueSource(torch.cat((own.source, seen), dim=1), owners, visible))
    return MemoryReading(tuple(layers))
