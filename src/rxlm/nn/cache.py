"""A preallocated key/value cache in which every row of the batch stands at its own position.

Shapes: B rows, H key/value heads, T new tokens, S capacity in tokens, d head dimension. Place j of a row holds
the token at position j, so that the rule "attend to places up to your own position" is at once the causal
mask and the padding mask: what a shorter row left after its end is never seen, and is overwritten later.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from rxlm.shapes import Bool, Float, Int


class LayerCache(Protocol):
    """What an attention stores its keys and values in."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values (B, H, T, d) and return all of that layer's that are kept."""


class KeyValueCache:
    """Keys and values of one attention stack for one batch of sequences."""

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
    ) -> None:
        shape = (num_layers, batch_size, num_kv_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.places = torch.arange(capacity, device=device)
        self.positions = torch.zeros(batch_size, dtype=torch.long, device=device)
        """The position of each row's next token, (B,)."""
        self.filled = [0] * batch_size
        """What each row's position is at most, known to the host without a synchronisation."""
        self.extent = 0
        """The largest of `filled`."""
        self.aligned = True
        """Whether all rows stand at the same position, so that plain slices serve instead of scatters."""

    @property
    def capacity(self) -> int:
        """Tokens that a row can hold."""
        return self.keys.shape[3]

    def reset(self) -> None:
        """Forget everything without giving the storage back."""
        self.positions.zero_()
        self._fill([0] * len(self.filled), aligned=True)

    def new_positions(self, num_tokens: int) -> Int[Tensor, "*B T"]:
        """Positions that the next `num_tokens` tokens take: (T,) where rows are aligned, else (B, T)."""
        if self.aligned:
            if self.extent + num_tokens > self.capacity:
                raise ValueError(
                    f"The key/value cache holds {self.capacity} tokens a row; "
                    f"{self.extent} are taken and {num_tokens} more were given."
                )
            return self.places[self.extent : self.extent + num_tokens]
        return self.positions[:, None] + self.places[:num_tokens]

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

    def append(
        self, layer: int, keys: Float[Tensor, "B H T d"], values: Float[Tensor, "B H T d"]
    ) -> tuple[Float[Tensor, "B H n d"], Float[Tensor, "B H n d"]]:
        """Store the new tokens' keys and values (B, H, T, d) and return all of that layer's, (B, H, n, d).

        Every layer appends once; then `advance` moves the rows on.
        """
        num_tokens = keys.shape[2]
        end = self._end(num_tokens)
        if self.aligned:
            self.keys[layer, :, :, self.extent : end] = keys
            self.values[layer, :, :, self.extent : end] = values
        else:
            index = self.new_positions(num_tokens)[:, None, :, None].expand_as(keys)
            self.keys[layer].scatter_(2, index, keys)
            self.values[layer].scatter_(2, index, values)
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def put(self, rows: Sequence[int], other: "KeyValueCache", lengths: Sequence[int]) -> None:
        """Let some rows hold what the rows of `other` hold, in the order given, up to the tokens in `lengths`."""
        index, width = torch.tensor(list(rows), device=self.positions.device), max(lengths)
        self.keys[:, index, :, :width] = other.keys[:, :, :, :width]
        self.values[:, index, :, :width] = other.values[:, :, :, :width]
        self.positions[index] = torch.tensor(list(lengths), device=self.positions.device)
        filled = list(self.filled)
        for row, length in zip(rows, lengths, strict=True):
            filled[row] = length
        self._fill(filled, aligned=False)

    def release(self, rows: Sequence[int]) -> None:
        """Forget what some rows hold."""
        self.positions[list(rows)] = 0
        self._fill([0 if row in rows else count for row, count in enumerate(self.filled)], aligned=False)

    def advance(self, num_tokens: int) -> None:
        """Move every row on by `num_tokens`."""
        self.positions += num_tokens
        self._fill([count + num_tokens for count in self.filled], aligned=self.aligned)

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
