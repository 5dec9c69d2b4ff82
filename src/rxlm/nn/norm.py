"""Normalisation layers by name."""

from typing import Literal

from torch import nn

NormKind = Literal["rms", "layer"]
NORMS: tuple[NormKind, ...] = ("rms", "layer")


def make_norm(kind: NormKind, dim: int) -> nn.Module:
    """Return RMSNorm (PyTorch's default epsilon) or LayerNorm over the last dimension of size `dim`."""
    return nn.RMSNorm(dim) if kind == "rms" else nn.LayerNorm(dim)
