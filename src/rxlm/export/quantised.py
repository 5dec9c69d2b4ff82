"""Linear layers whose weights have 8 or 4 bits, as ONNX Runtime multiplies them.

A block of 32 weights of one output has a scale and a zero point: w = scale (q - zero). Products are of whole numbers:
the input is rounded to 8 bits, block by block, as it comes (operator MatMulNBits, accuracy level 4).
"""

import torch
from torch import Tensor, nn

from rxlm.export.rounding import BLOCK, Rounding, rounded

WHOLE_NUMBERS = 4
"""The operator's accuracy level at which products are of 8-bit numbers."""
LEAST_FEATURES = 128
"""Of a layer's input or output: the small ones, retention gates among them, gain nothing and keep their weights."""


def is_large(layer: nn.Module) -> bool:
    """Tell whether a module is a linear layer that gains by few bits."""
    return isinstance(layer, nn.Linear) and min(layer.weight.shape) >= LEAST_FEATURES


class QuantisedLinear(nn.Module):
    """A linear layer of few bits, in a graph that is being exported; nothing else can compute it.

    Args:
        linear: whose weight (N, K) is rounded. rounding: how, to 4 or 8 bits. of: a weight whose layer reads the same.
    """

    def __init__(self, linear: nn.Linear, rounding: Rounding, of: Tensor) -> None:
        super().__init__()
        found = rounded(linear.weight.detach(), rounding.bits, rounding.moments.get(of))
        for name, each in found._asdict().items():
            self.register_buffer(name, each)
        self.bias = linear.bias
        (self.num_outputs, self.num_inputs), self.bits = linear.weight.shape, rounding.bits

    packed: Tensor
    scales: Tensor
    zeros: Tensor

    def forward(self, input: Tensor) -> Tensor:  # PyTorch's name
        """Map `input` (..., K) to (..., N)."""
        made = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            (input, self.packed, self.scales, self.zeros),
            {
                "K": self.num_inputs, "N": self.num_outputs, "bits": self.bits, "block_size": BLOCK,
                "accuracy_level": WHOLE_NUMBERS,
            },
            dtype=input.dtype,
            shape=(*input.shape[:-1], self.num_outputs),
            version=1,
        )  # fmt: skip
        return made if self.bias is None else made + self.bias
