"""Normalisation layers by name."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NormKind = Literal["rms", "layer"]
WHOLE = (torch.float32, torch.float64)
NORMS: tuple[NormKind, ...] = ("rms", "layer")


def make_norm(kind: NormKind, dim: int, eps: float | None = None) -> nn.Module:
    """Return RMSNorm or LayerNorm over the last dimension of size `dim`; PyTorch's default epsilon when None."""
    if kind == "rms":
        return RMSNorm(dim, eps=eps)
    return nn.LayerNorm(dim) if eps is None else nn.LayerNorm(dim, eps=eps)


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm over the last dimension, which on a CPU learns with half of the passes over memory.

    PyTorch has one kernel for it on GPUs; on a CPU it makes the norm of six operators, each of which has a gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x / sqrt(mean(x^2) + eps) * weight, of the shape of `x` (..., D)."""
        weight = self.weight
        learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        if not learns or x.device.type != "cpu" or x.dtype != weight.dtype or x.dtype not in WHOLE:
            return super().forward(x)
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        found: Tensor = _Normalised.apply(x, weight, eps)
        return found


class _Normalised(torch.autograd.Function):
    """RMSNorm whose gradient is written out.

    With n = x / r, r = sqrt(mean(x^2) + eps), y = n * weight and a gradient g of y: that of the weight is the sum of
    g * n, that of x is (g * weight - n * mean(g * weight * n)) / r.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = inverse.div_(x.shape[-1]).add_(eps).rsqrt_()
        normalised = x * inverse
        ctx.save_for_backward(normalised, weight, inverse)
        return normalised * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyrefly: ignore
        (gradient,), (normalised, weight, inverse) = grad_outputs, ctx.saved_tensors
        product = (gradient * normalised).view(-1, weight.shape[-1])
        with torch.autocast("cpu", enabled=False):
            mean = torch.mv(product, weight).view_as(inverse).div_(weight.shape[-1])
        of_x = (gradient * weight).addcmul_(normalised, mean, value=-1.0).mul_(inverse)
        return of_x, product.sum(0) if ctx.needs_input_grad[1] else None, None
