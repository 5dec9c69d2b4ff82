"""Norms of memory slots: plain RMSNorm, and norms that are mixed with their input by a learned scalar gate."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.nn.norm import RMSNorm
from rxlm.shapes import Float

MemoryNormKind = Literal["rms", "mixed-layer", "mixed-rms", "mixed-positional"]
MEMORY_NORMS: tuple[MemoryNormKind, ...] = get_args(MemoryNormKind)


class MixedNorm(nn.Module):
    """g * n(x) + (1 - g) * x with g = sigmoid(gate) and n a norm of the last dimension, epsilon 1e-6.

    `mixed-layer`: n(x) = LayerNorm(x) * scale. `mixed-rms`: n(x) = x / sqrt(rms(x) + eps) * scale, with the *root*
    mean square under the root, as published models have it. `mixed-positional`: the same with a running average of
    the root mean square, stored a slot, in place of rms(x); gate and average are a value a slot, (S, 1), and so is
    the scale unless it is per dimension.
    """

    eps = 1e-6

    def __init__(self, kind: MemoryNormKind, dim: int, num_slots: int, per_dim_scale: bool = True) -> None:
        super().__init__()
        self.kind = kind
        positional = kind == "mixed-positional"
        self.gate = nn.Parameter(torch.zeros(num_slots, 1) if positional else torch.zeros(1))
        self.scale = nn.Parameter(torch.ones(dim) if per_dim_scale else torch.ones(num_slots, 1))
        if positional:
            self.register_buffer("average_rms", torch.ones(num_slots, 1))

    def forward(self, x: Float[Tensor, "*B S D"]) -> Float[Tensor, "*B S D"]:
        """Normalise slots `x` (..., S, D)."""
        gate = self.gate.sigmoid()
        return gate * self._norm(x) * self.scale + (1 - gate) * x

    def _norm(self, x: Tensor) -> Tensor:
        if self.kind == "mixed-layer":
            return F.layer_norm(x, x.shape[-1:], eps=self.eps)
        if self.kind == "mixed-positional":
            return x * (self.average_rms + self.eps).rsqrt()
        # Not the root of a mean of squares, whose gradient at a slot of zeros is not a number.
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        return x * (rms + self.eps).rsqrt()


def make_memory_norm(kind: MemoryNormKind, dim: int, num_slots: int, per_dim_scale: bool = True) -> nn.Module:
    """Return the norm of slots of that name."""
    return RMSNorm(dim) if kind == "rms" else MixedNorm(kind, dim, num_slots, per_dim_scale)
