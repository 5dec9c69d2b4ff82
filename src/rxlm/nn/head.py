"""The head of a language model: from hidden states to logits, or to the loss of given tokens.

Shapes: D model dimension, V vocabulary, N tokens.
"""

from typing import overload

from torch import Tensor

from rxlm.nn.cross_entropy import TokenLoss, token_loss
from rxlm.nn.linear import Linear


class TokenHead(Linear):
    """A linear layer to the vocabulary that computes losses itself, so that nobody else touches its weight.

    Where weights are sharded over processes they are whole only within `forward`.
    """

    @overload
    def forward(self, input: Tensor, targets: None = None) -> Tensor: ...
    @overload
    def forward(self, input: Tensor, targets: Tensor) -> TokenLoss: ...
    def forward(self, input: Tensor, targets: Tensor | None = None) -> Tensor | TokenLoss:
        """Return the logits (..., V) of `input` (..., D); or, with `targets` (N,), their summed loss given (N, D)."""
        if targets is None:
            return super().forward(input)
        return token_loss(input, self.weight, self.bias, targets)
