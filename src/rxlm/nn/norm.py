"""Normalisation layers by name."""

from typing import Literal

from torch import nn

NormKind = Literal["rms", "layer"]
NORMS: tuple[NormKind, ...] = ("rms", "layer")


def make_norm(kind: NormKind, dim: int, eps: float | None = None) -> nn.Module:
    """Return RMSNorm or LayerNorm over the last dimension of size `dim`; PyTorch's default epsilon when None."""
    if kind == "rms":
        return nn.RMSNorm(dim, eps=eps)
    return nn.LayerNorm(dim) if eps is None else nn.LayerNorm(dim, eps=eps)
