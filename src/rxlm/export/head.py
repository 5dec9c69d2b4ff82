"""A head that is no `nn.Linear`: logits and losses of whatever computes them.

Shapes: N tokens, D model dimension, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.nn.cross_entropy import TokenLoss

TOKENS_AT_ONCE = 256
"""Whose logits there are, where losses of many tokens are computed."""


class LogitsHead(nn.Module):
    """Stands where a decoder has its `TokenHead`.

    Args:
        logits: returns the logits (N, V) of what the head reads, (N, D).
    """

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    @torch.no_grad()
    def forward(self, input: Tensor, targets: Tensor | None = None) -> Tensor | TokenLoss:  # PyTorch's name
        """Return the logits (..., V) of `input` (..., D); or, with `targets` (N,), their summed loss given (N, D)."""
        if targets is None:
            return self.logits(input.reshape(-1, input.shape[-1])).view(*input.shape[:-1], -1)
        loss, correct = input.new_zeros(()), input.new_zeros((), dtype=torch.long)
        for part, wanted in zip(input.split(TOKENS_AT_ONCE), targets.split(TOKENS_AT_ONCE), strict=True):
            logits = self.logits(part)
            loss += F.cross_entropy(logits, wanted, reduction="sum")
            correct += (logits.argmax(-1) == wanted).sum()
        return TokenLoss(loss, correct)
