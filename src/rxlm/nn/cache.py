"""A preallocated key/value cache in which every row of the batch stands at its own position.

Shapes: B rows, H key/value heads, T new tokens, S capacity in tokens, d head dimension. Place j of a row holds
the token at position j, so that the rule "attend to places up to your own position" is at once the causal
mask and the padding mask: what a shorter row left after its end is never seen, and is overwritten later.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.nn.key_values import KeyValues
from rxlm.nn.past import ComputedTurn, Past, of_all_layers, turned_back
from rxlm.nn.rope import RotaryEmbedding
from rxlm.shapes import Bool, Float, Int


class LayerCache(Protocol):
    """What an attention stores its keys and values in."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Store the new tokens' keys and values (B, H, T, d) and return all of that layer's that are kept."""

    def note(self, layer: int, scores: Tensor) -> None:
        """Store what the layer's retention gate gave the new tokens, (B, H, T); comes before `append`."""


class Layout(NamedTuple):
    """Where new tokens stand, and what they see.

    Fields:
        positions: for the rotary embedding, (T,) or (B, T).
        mask: True where a query may attend, (B or 1, 1, T, S); None: everywhere, or up to itself where `causal`.
    """

    positions: Tensor
    mask: Tensor | None
    causal: bool


class DecoderCache(LayerCache, Protocol):
    """What a decoder's layers store their keys and values in."""

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        """Return where the next `num_tokens` tokens stand and what they see."""


class StoredCache(DecoderCache, Protocol):
    """A cache that also serves who computes all layers at once, in place of one after another."""

    def stored(
        self, num_tokens: int, sliding_window: int | None = None
    ) -> tuple[KeyValues | None, Bool[Tensor, "#B 1 T T"] | None]:
        """Return what stands before the next tokens, and what of themselves they see.

        Returns: keys and values of all layers as they are stored, (L, B, H, S, d), with a mask that is True where the
            next tokens see them, (L or 1, B or 1, H or 1, T or 1, S), or None where nothing is there; and
            (B or 1, 1, T, T), True at tokens that they see, or None where each sees all.
        """

    def store(self, keys: Tensor, values: Tensor, scores: Tensor | None) -> None:
        """Store what all layers computed of new tokens: keys and values (L, B, H, T, d), scores (G, B, H, T)."""


def causal_mask(
    num_tokens: int, sliding_window: int | None = None, device: torch.device | None = None
) -> Bool[Tensor, "1 1 T T"]:
    """Return True where one of some tokens, read at once, sees another: itself and those before, within the window."""
    places = torch.arange(num_tokens, device=device)
    mask = places <= places[:, None]
    if sliding_window is not None:
        mask &= places > places[:, None] - sliding_window
    return mask[None, None]


class KeyValueCache:
    """Keys and values of one attention stack for one batch of sequences.

    A row may begin with what its conversation keeps of earlier tokens (`begin`): they take its first places.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_kv_heads: int,
        head_dim: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        num_gates: int = 0,
    ) -> None:
        shape = (num_layers, batch_size, num_kv_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.scores = torch.zeros((num_gates, *shape[1:-1]), device=device) if num_gates else None
        """What the retention gates of the first layers, or of all, gave the tokens, (G, B, H, S); None: there are none.
        A layer without a gate keeps tokens by the scores of the last one that has."""
        self.gaps: Tensor | None = None
        """True at places that hold nothing, (L, B, H, S); None where only those after a row's end do."""
        self.places = torch.arange(capacity, device=device)
        self.positions = torch.zeros(batch_size, dtype=torch.long, device=device)
        """The place of each row's next token, (B,)."""
        self.filled = [0] * batch_size
        """What each row's position is at most, known to the host without a synchronisation."""
        self.extent = 0
        """The largest of `filled`."""
        self.aligned = True
        """Whether all rows stand at the same position, so that plain slices serve instead of scatters."""
        self.begins = [0] * batch_size
        """The place of each row's first token of its own."""
        self.shift: Tensor | None = None
        """How much further the rotary embedding has a token than its place, (B,); None: not at all."""

    @property
    def capacity(self) -> int:
        """Tokens that a row can hold."""
        return self.keys.shape[3]

    def reset(self) -> None:
        """Forget everything without giving the storage back."""
        self.positions.zero_()
        self.shift = self.gaps = None
        self.begins = [0] * len(self.filled)
        self._fill([0] * len(self.filled), aligned=True)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens a row; what the rows hold stays."""
        more = capacity - self.capacity
        if more <= 0:
            return
        self.keys, self.values = (F.pad(each, (0, 0, 0, more)) for each in (self.keys, self.values))
        self.scores = None if self.scores is None else F.pad(self.scores, (0, more))
        self.gaps = None if self.gaps is None else F.pad(self.gaps, (0, more))
        self.places = torch.arange(capacity, device=self.places.device)

    def begin(self, past: Past) -> None:
        """Let each row of an empty cache begin with what its conversation keeps, rotated."""
        assert past.next_position is not None
        filled, gaps, width = past.filled, past.gaps(), past.num_places
        self.keys[:, :, :, :width] = past.keys
        self.values[:, :, :, :width] = past.values
        if gaps is not None:  # what stands after a row's last token is free for those to come
            gaps = gaps & (self.places[:width] < filled[:, None])[None, :, None]
        self.gaps = None if gaps is None else F.pad(gaps, (0, self.capacity - width))
        self.positions.copy_(filled)
        self.begins = filled.tolist()
        self.shift = past.next_position - filled
        self._fill(list(self.begins), aligned=len(set(self.begins)) == 1)

    def new_positions(self, num_tokens: int) -> Int[Tensor, "*B T"]:
        """Places that the next `num_tokens` tokens take: (T,) where rows are aligned, else (B, T)."""
        if self.aligned:
            if self.extent + num_tokens > self.capacity:
                raise ValueError(
                    f"The key/value cache holds {self.capacity} tokens a row; "
                    f"{self.extent} are taken and {num_tokens} more were given."
                )
            return self.places[self.extent : self.extent + num_tokens]
        return self.positions[:, None] + self.places[:num_tokens]

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        """Return where the next `num_tokens` tokens stand and what they see."""
        positions = self.new_positions(num_tokens)
        if self.shift is not None:
            positions = positions + self.shift[:, None]
        if not self.extent:
            return Layout(positions, None, causal=num_tokens > 1)
        return Layout(positions, self.visible(num_tokens, sliding_window), causal=False)

    def visible(self, num_tokens: int, sliding_window: int | None = None) -> Bool[Tensor, "#B 1 T S"] | None:
        """Mask for the next `num_tokens` tokens as queries over the places filled by then, True where seen.

        Shape (B or 1, 1, T, extent + T); None where every query sees every place.
        """
        end = self._end(num_tokens)
        windowed = sliding_window is not None and end > sliding_window
        if self.aligned and num_tokens == 1 and not windowed:
            return None
        queries = self.new_positions(num_tokens)[..., None]
        places = self.places[:end]
        mask = places <= queries
        if sliding_window is not None:
            mask &= places > queries - sliding_window
        return mask[:, None] if mask.dim() == 3 else mask[None, None]

    def append(self, layer: int, keys: Float[Tensor, "B H T d"], values: Float[Tensor, "B H T d"]) -> KeyValues:
        """Store the new tokens' keys and values (B, H, T, d) and return all of that layer's, (B, H, n, d).

        Every layer appends once; then `advance_prompt` or `advance_active` moves the rows on.
        """
        end = self._end(keys.shape[2])
        for store, new in ((self.keys, keys), (self.values, values)):
            self._store(store[layer], new)
        mask = None if self.gaps is None else ~self.gaps[layer, :, :, None, :end]
        return KeyValues(self.keys[layer, :, :, :end], self.values[layer, :, :, :end], mask)

    def note(self, layer: int, scores: Float[Tensor, "B H T"]) -> None:
        """Store what the layer's retention gate gave the new tokens."""
        assert self.scores is not None
        self._store(self.scores[layer][..., None], scores[..., None])

    def stored(
        self, num_tokens: int, sliding_window: int | None = None
    ) -> tuple[KeyValues | None, Bool[Tensor, "1 1 T T"] | None]:
        """Return what stands before the next tokens, and what of themselves they see; see `StoredCache`."""
        among = None if num_tokens == 1 else causal_mask(num_tokens, sliding_window, self.places.device)
        if not self.extent:
            return None, among
        first = self.extent if self.aligned else self.positions[:, None, None]
        mask = (self.places < first).view(1, -1, 1, 1, self.capacity)
        if sliding_window is not None:
            nearest = first + self.places[:num_tokens, None] - sliding_window
            mask = mask & (self.places > nearest).view(1, -1, 1, num_tokens, self.capacity)
        if self.gaps is not None:
            mask = mask & ~self.gaps[:, :, :, None]
        return KeyValues(self.keys, self.values, mask), among

    def store(
        self,
        keys: Float[Tensor, "L B H T d"],
        values: Float[Tensor, "L B H T d"],
        scores: Float[Tensor, "G B H T"] | None,
    ) -> None:
        """Store what all layers computed of new tokens."""
        self._store(self.keys, keys)
        self._store(self.values, values)
        if self.scores is not None and scores is not None:
            self._store(self.scores[..., None], scores[..., None])

    def _store(self, stored: Tensor, new: Tensor) -> None:
        """Put what belongs to new tokens (..., B, H, T, d) into its places of (..., B, H, S, d)."""
        num_tokens = new.shape[-2]
        if self.aligned:
            stored[..., self.extent : self._end(num_tokens), :] = new
        else:
            places = self.new_positions(num_tokens)[:, None, :, None].expand_as(new)
            stored.scatter_(-2, places, new.to(stored.dtype))

    def put(self, rows: Sequence[int], other: "KeyValueCache") -> None:
        """Let some rows hold what the rows of `other` hold, in the order given."""
        index, width = torch.tensor(list(rows), device=self.positions.device), other.extent
        self.keys[:, index, :, :width] = other.keys[:, :, :, :width]
        self.values[:, index, :, :width] = other.values[:, :, :, :width]
        if self.scores is not None and other.scores is not None:
            self.scores[:, index, :, :width] = other.scores[..., :width]
        if self.gaps is not None or other.gaps is not None:
            self.gaps = self._gaps()
            self.gaps[:, index] = False
            self.gaps[:, index, :, :width] = other._gaps()[..., :width]
        if self.shift is not None or other.shift is not None:
            self.shift = self._shift().index_copy(0, index, other._shift())
        self.positions[index] = other.positions
        filled = list(self.filled)
        for row, length, begin in zip(rows, other.filled, other.begins, strict=True):
            filled[row], self.begins[row] = length, begin
        self._fill(filled, aligned=False)

    def _gaps(self) -> Tensor:
        return torch.zeros_like(self.keys[..., 0], dtype=torch.bool) if self.gaps is None else self.gaps

    def _shift(self) -> Tensor:
        return torch.zeros_like(self.positions) if self.shift is None else self.shift

    def release(self, rows: Sequence[int]) -> None:
        """Forget what some rows hold."""
        self.positions[list(rows)] = 0
        for row in rows:
            self.begins[row] = 0
        self._fill([0 if row in rows else count for row, count in enumerate(self.filled)], aligned=False)

    def arrange(self, rows: Sequence[int | None]) -> None:
        """Hold what some rows hold, in the order given; None: a row that holds nothing. Room is left for that alone."""
        index, width = [row or 0 for row in rows], max(1, self.extent)
        self.keys, self.values = self.keys[:, index, :, :width], self.values[:, index, :, :width]
        self.scores = None if self.scores is None else self.scores[:, index, :, :width]
        self.gaps = None if self.gaps is None else self.gaps[:, index, :, :width]
        self.places = self.places[:width]
        self.shift = None if self.shift is None else self.shift[index]
        self.positions = self.positions[index]
        self.begins = [self.begins[row] for row in index]
        self._fill([self.filled[row] for row in index], aligned=self.aligned)
        self.release([place for place, row in enumerate(rows) if row is None])

    def computed(self, row: int, ids: Sequence[int], rope: RotaryEmbedding) -> ComputedTurn:
        """Return what was computed of the first tokens of a row's own, which are `ids`."""
        begin, end = self.begins[row], self.begins[row] + len(ids)
        keys, values = (each[:, row : row + 1, :, begin:end] for each in (self.keys, self.values))
        positions = self.places[None, begin:end] + (0 if self.shift is None else self.shift[row])
        tokens = torch.tensor([list(ids)], device=positions.device)
        return ComputedTurn(
            turned_back(keys, positions, rope),
            values.clone(),
            None if self.scores is None else of_all_layers(self.scores[:, row : row + 1, :, begin:end], len(keys)),
            tokens,
            torch.ones_like(tokens, dtype=torch.bool),
        )

    def advance_prompt(self, lengths: Sequence[int]) -> None:
        """Move row b on by `lengths[b]`: the tokens just appended were padded at the end to one length."""
        self.positions += torch.tensor(lengths, device=self.positions.device)
        filled = [count + length for count, length in zip(self.filled, lengths, strict=True)]
        self._fill(filled, aligned=self.aligned and len(set(lengths)) == 1)

    def advance_active(self, active: Bool[Tensor, " B"]) -> None:
        """Move on by one token the rows where `active` (B,) is True; the others stand still, as they are finished.

        Aligned rows all move: what finished ones write is never read.
        """
        self.positions += 1 if self.aligned else active
        self._fill([min(count + 1, self.capacity) if count else 0 for count in self.filled], aligned=self.aligned)

    def _fill(self, filled: list[int], *, aligned: bool) -> None:
        self.filled, self.aligned, self.extent = filled, aligned, max(filled)

    def _end(self, num_tokens: int) -> int:
        return min(self.extent + num_tokens, self.capacity)
