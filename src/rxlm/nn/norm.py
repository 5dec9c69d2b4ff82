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
    """PyTorch's RMSNorm over the last dimension, which on a CPU passes over memory half as often.

    PyTorch has one kernel for it on GPUs; on a CPU it makes the norm of six operators, each of which has a gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x / sqrt(mean(x^2) + eps) * weight, of the shape of `x` (..., D)."""
        weight, is_own = self.weight, x.device.type == "cpu" and x.dtype == self.weight.dtype and x.dtype in WHOLE
        if not is_own or torch.compiler.is_compiling():
            return super().forward(x)
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        if not torch.is_grad_enabled():
            return _normalised(x, eps)[0].mul_(weight)
        found: Tensor = _Normalised.apply(x, weight, eps)
        return found


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x (..., D) divided by the root of its mean square, and 1 over that, (..., 1)."""
    inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    inverse = inverse.div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * inverse, inverse


class _Normalised(torch.autograd.Function):
    """RMSNorm whose gradient is written out.

    With n = x / r, r = sqrt(mean(x^2) + eps), y = n * weight and a gradient g of y: that of the weight is the sum of
    g * n, that of x is (g * weight - n * mean(g * weight * n)) / r.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normalised, inverse = _normalised(x, eps)
        ctx.save_for_backward(normalised, weight, inverse)
        return normalised * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyrefly: ignore
        (gradient,), (normalised, weight, inverse) = grad_outputs, ctx.saved_tensors
        product = (gradient * normalised).reshape(-1, weight.shape[-1])
        with torch.autocast("cpu", enabled=False):
            mean = torch.mv(product, weight).view_as(inverse).div_(weight.shape[-1])
        of_x = (gradient * weight).addcmul_(normalised, mean, value=-1.0).mul_(inverse)
        return of_x, product.sum(0) if ctx.needs_input_grad[1] else None, None
