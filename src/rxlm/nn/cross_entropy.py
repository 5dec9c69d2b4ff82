"""Cross-entropy of a linear head over a large vocabulary, a few rows at a time.

Logits are by far the largest tensors of a training step, and all that is wanted of them is a number and a gradient.
Here no more than `CHUNK` of them exist at once: the gradients of a chunk are computed right after its logits, with the
same three products that a forward and a backward pass would take.

Shapes: N tokens, D model dimension, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.shapes import Float, Int

CHUNK = 2**22
"""Logits held at once: few enough for the allocator to reuse their memory, enough rows to keep the products fast."""


class TokenLoss(NamedTuple):
    """The summed cross-entropy of some tokens, and how many of them have the highest logit."""

    loss: Tensor
    correct: Tensor


def token_loss(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    targets: Int[Tensor, " N"],
) -> TokenLoss:
    """Return the loss of `targets` (N,) under the logits `hidden @ weight.T + bias`; a gradient flows to all three.

    Under autocast the products run in its type; the loss itself is computed in float32 at least.

    Args:
        hidden: what the head reads, (N, D). weight: (V, D). bias: (V,), or None.
        targets: token ids.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        return TokenLoss(*_TokenLoss.apply(hidden, weight, bias, targets, dtype, torch.is_grad_enabled()))


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype, learns: bool
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[:3] if learns else (False, False, False)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        gradients = [
            torch.zeros_like(value, dtype=exact) if value is not None and needed else None
            for value, needed in zip((hidden, weight, bias), wanted, strict=True)
        ]
        matrix = weight.to(dtype)
        loss, correct = hidden.new_zeros((), dtype=exact), targets.new_zeros(())
        rows = max(1, CHUNK // len(weight))
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            read, truth = hidden[part].to(dtype), targets[part, None]
            logits = F.linear(read, matrix, None if bias is None else bias.to(dtype)).to(exact)
            highest, chosen = logits.amax(-1, keepdim=True), logits.gather(1, truth)
            correct += (chosen == highest).sum()
            probabilities = logits.softmax(-1)
            # log-sum-exp is the highest logit less the logarithm of its probability.
            loss += (highest - probabilities.amax(-1, keepdim=True).log() - chosen).sum()
            if any(wanted):
                # d loss / d logits = softmax - one hot
                slope = probabilities.scatter_add_(1, truth, torch.full_like(chosen, -1))
                _add_gradients(gradients, part, slope, read, matrix)
        ctx.gradients = gradients
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        scale = grad_outputs[0]
        return *(None if gradient is None else gradient.mul_(scale) for gradient in gradients), None, None, None


def _add_gradients(gradients: list[Tensor | None], part: slice, slope: Tensor, read: Tensor, matrix: Tensor) -> None:
    """Add what a chunk gives to the gradients of hidden, weight and bias."""
    hidden, weight, bias = gradients
    if bias is not None:
        bias += slope.sum(0)
    low = slope.to(matrix.dtype)
    if hidden is not None:
        hidden[part] = low @ matrix
    if weight is None:
        return
    if weight.dtype == low.dtype:
        torch.addmm(weight, low.T, read, out=weight)
    else:
        weight += low.T @ read
