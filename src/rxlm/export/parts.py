"""Parts of a layer as they stand in a graph: fewer and larger operators than PyTorch's own would become.

An operator takes some ten microseconds besides what it computes, and a token passes thousands.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rxlm.export.quantised import QuantisedLinear, is_large
from rxlm.export.rounding import Rounding

SAME, REST = 0, -1
"""Sizes of axes in a new shape: as it was, and what is left."""


class NormPart(nn.Module):
    """RMSNorm as one operator."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps or torch.finfo(torch.float32).eps

    def forward(self, input: Tensor) -> Tensor:  # PyTorch's name
        """Normalise the last axis."""
        settings: Any = {"axis": -1, "epsilon": self.eps, "stash_type": 1}
        return torch.onnx.ops.symbolic(
            "SimplifiedLayerNormalization", (input, self.weight), settings, dtype=input.dtype, shape=input.shape
        )


def reshaped(x: Tensor, sizes: Sequence[int], known: Sequence[int]) -> Tensor:
    """Return x in another shape: one operator, where PyTorch's would be ten.

    Args:
        x: the tensor.
        sizes: of its axes; SAME: as the axis of this number is, REST: what is left.
        known: what axes that are SAME or REST have, by number; what is said of others does not count.
    """
    shape = [known[axis] if size in (SAME, REST) else size for axis, size in enumerate(sizes)]
    return torch.onnx.ops.symbolic("Reshape", (x, torch.tensor(sizes)), dtype=x.dtype, shape=shape)


class LinearPart(nn.Module):
    """A linear layer whose weight stands as its product takes it: an optimiser would fold a transposition into it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().t().contiguous())
        self.bias = linear.bias

    weight: Tensor

    def forward(self, input: Tensor) -> Tensor:  # PyTorch's name
        """Map `input` (..., K) to (..., N)."""
        made = input @ self.weight
        return made if self.bias is None else made + self.bias


def as_linear(linear: nn.Module, rounding: Rounding, of: Tensor | None = None) -> nn.Module:
    """Return a linear layer with rounded weights, where it is large enough to gain by it.

    It reads what the layer of the weight `of` reads, its own if not given.
    """
    assert isinstance(linear, nn.Linear)
    is_rounded = rounding.bits < 32 and is_large(linear)
    return QuantisedLinear(linear, rounding, linear.weight if of is None else of) if is_rounded else LinearPart(linear)
