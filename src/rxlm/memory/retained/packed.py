"""Dialogues of different lengths read as one row of tokens, without padding, as it pays on a CPU.

All that is computed of each token alone is computed of all dialogues at once: weights are cast and their gradients
added up once. Attention takes the dialogues one after another, in blocks of queries with the keys before them.

Shapes: B dialogues, T tokens of the longest, P tokens of all together, N turns, H query heads, K key/value heads, d
head dimension; t and s tokens of a block.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.memory.retained.parallel import ParallelTurns
from rxlm.nn.cache import Layout
from rxlm.nn.half_attention import attend_in_blocks, blocks_of
from rxlm.nn.key_values import KeyValues


class PackedTurns:
    """Takes the place of a key/value cache while whole dialogues are read as one row.

    Args:
        real: True at the tokens of dialogues, (B, T), which are the first of each row; the rest is padding.
        turns: says what turns see of those before them; None: every token sees all before it.
    """

    def __init__(self, real: Tensor, turns: ParallelTurns | None = None) -> None:
        self.real, self.turns = real, turns
        self._positions = torch.arange(real.shape[1], device=real.device).expand_as(real)
        ends = real.sum(1).cumsum(0).tolist()
        self._rows = [slice(*bounds) for bounds in pairwise((0, *ends))]
        self._blocks = [] if turns is None else self._blocks_of(turns)

    def packed(self, values: Tensor) -> Tensor:
        """Return values of tokens (B, T, ...) as one row, (1, P, ...)."""
        return values[self.real][None]

    def padded(self, values: Tensor) -> Tensor:
        """Return values of one row (1, P, ...) by dialogue, (B, T, ...), 0 in the padding."""
        found = values.new_zeros(*self.real.shape, *values.shape[2:])
        found[self.real] = values[0]
        return found

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        """Return where the tokens stand in their dialogues; what they see is for attention to say."""
        return Layout(self.packed(self._positions), None, causal=True)

    def note(self, layer: int, scores: Tensor) -> None:
        """Take the scores that the layer's gate gave the tokens, (1, K, P)."""
        if self.turns is not None:
            self.turns.note(layer, self.padded(scores.transpose(1, 2)).transpose(1, 2))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Return keys and values (1, K, P, d) with what attends to them."""
        if self.turns is None:
            return KeyValues(keys, values, attend=self._attend_to_all)
        visible = self.turns.visible(layer, keys.shape[1])
        return KeyValues(keys, values, attend=lambda q, k, v: attend_in_blocks(q, k, v, visible, self._blocks))

    def _attend_to_all(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return what heads (1, H, P, d) read of their own dialogues, each token of those before it."""
        shared = queries.shape[1] != keys.shape[1]
        parts = [
            F.scaled_dot_product_attention(
                queries[:, :, row], keys[:, :, row], values[:, :, row], is_causal=True, enable_gqa=shared
            )
            for row in self._rows
        ]
        return torch.cat(parts, 2)

    def _blocks_of(self, turns: ParallelTurns) -> list["_TurnBlock"]:
        """Return the blocks of all dialogues."""
        return [
            _TurnBlock(
                row,
                slice(place.start + own.start, place.start + own.stop),
                slice(place.start, place.start + own.stop),
                turns.turns[row, own],
                turns.own[row, own, : own.stop],
            )
            for row, place in enumerate(self._rows)
            for own in blocks_of(place.stop - place.start)
        ]


@dataclass(frozen=True, eq=False)
class _TurnBlock:
    """Queries of a dialogue: they see of earlier turns what their own turn sees, and all that stands before in it.

    Fields:
        row: the dialogue. own, seen: places of queries and keys in the packed row.
        turn_of: the turn of each query, (t,). of_turn: True at keys of it that stand before the query or are its own,
            (t, s).
    """

    row: int
    own: slice
    seen: slice
    turn_of: Tensor
    of_turn: Tensor

    def bias(self, given: Tensor) -> Tensor:
        """Return what is added to the scores, (1, K, t, s), of what turns see, (B, K, N, T)."""
        seen = given[self.row, :, :, : self.of_turn.shape[1]]
        return seen.index_select(1, self.turn_of).masked_fill_(self.of_turn, 0.0)[None]

    def add_gradient(self, total: Tensor, part: Tensor) -> None:
        """Add that of the bias, (1, K, t, s), to that of what turns see, (B, K, N, T)."""
        numbers = F.one_hot(self.turn_of, total.shape[2]).T.to(part.dtype)
        total[self.row, :, :, : self.of_turn.shape[1]] += numbers @ part[0].masked_fill_(self.of_turn, 0.0)
