"""Rotary position embedding (Su et al., 2021, equation 34) on interleaved pairs (0,1), (2,3), ...

Shapes: B batch, H heads, T tokens, d head dimension.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from rxlm.shapes import Float, Int, Shaped


class Rotation(NamedTuple):
    """Angles of one set of positions, ready to be applied to any head.

    `cos` (B or 1, 1, T, d): the cosine of each pair's angle, twice in a row.
    `sin` (B or 1, 1, T, d): its sine, negated in the first place of each pair.
    """

    cos: Tensor
    sin: Tensor


class RotaryEmbedding(nn.Module):
    """Turns positions into rotations: pair i of position p turns by p * base^(-2i / head_dim).

    Angles are float32 whatever the model's dtype: in bfloat16 they would be wrong by a quarter of a turn
    from position 256 on.

    Args:
        head_dim: dimension d of a head.
        base: see above.
        frequencies: angle that each pair turns by from one position to the next, (d / 2,), instead of those of `base`:
            for models that stretch their positions.
    """

    inverse_frequencies: Tensor

    def __init__(self, head_dim: int, base: float = 10000.0, frequencies: Sequence[float] | None = None) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"Rotary embedding needs an even head dimension, got {head_dim}.")
        self.head_dim = head_dim
        self.base = base
        self.pair_frequencies = None if frequencies is None else tuple(frequencies)
        self.register_buffer("inverse_frequencies", self._frequencies("cpu"), persistent=False)

    def forward(self, positions: Int[Tensor, "*B T"]) -> Rotation:
        """Return the rotation of `positions`, shape (T,) or (B, T), whole numbers."""
        angles = positions.float()[..., None, :, None] * self.inverse_frequencies
        rows = angles if positions.dim() == 2 else angles[None]
        return Rotation(rows.cos(), rows.sin())

    def _frequencies(self, device: torch.device | str) -> Tensor:
        if self.pair_frequencies is None:
            exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device) / self.head_dim
            frequencies = 1.0 / self.base**exponents
        else:
            frequencies = torch.tensor(self.pair_frequencies, dtype=torch.float32, device=device)
        # Each frequency twice, first negated: the cosine is even and the sine odd, as `Rotation` wants them.
        return torch.stack((-frequencies, frequencies), dim=-1).flatten()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        # `module.to(torch.bfloat16)` would round the frequencies: move them, then compute them again.
        super()._apply(fn, recurse)
        self.reset()
        return self

    def reset(self) -> None:
        """Compute the frequencies again, on the device where they are."""
        self.inverse_frequencies = self._frequencies(self.inverse_frequencies.device)


def rotate(x: Float[Tensor, "B H T d"], rotation: Rotation) -> Float[Tensor, "B H T d"]:
    """Rotate queries or keys `x` (B, H, T, d) by a rotation of the same T; returns the shape and dtype of x."""
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * rotation.cos, swapped, rotation.sin).type_as(x)


def token_positions(
    num_tokens: int, mask: Shaped[Tensor, "B T"] | None = None, device: torch.device | None = None
) -> Int[Tensor, "*B T"]:
    """Positions of tokens: (T,), or counted among the real tokens of each row for a mask (B, T), shape (B, T)."""
    if mask is None:
        return torch.arange(num_tokens, device=device)
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def segment_positions(segments: Shaped[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Positions that start again in every document of a row: how many of its tokens stand before, (B, T).

    `segments` (B, T) numbers the document that a token belongs to.
    """
    return (segments[:, :, None] == segments[:, None, :]).tril(-1).sum(-1)
