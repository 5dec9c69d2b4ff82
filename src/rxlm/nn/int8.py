"""Linear layers whose weights have 8 bits, one scale for each output, by PyTorch alone.

Shapes: N tokens, K inputs, M outputs of a layer.
"""

import torch
from torch import Tensor, nn


class Int8Linear(nn.Module):
    """A linear layer with weights w = scale q, q from -127 to 127, whose products are of floating-point numbers.

    For CPUs and without gradients. It is read at a quarter of the bytes of float32, which is what the products of few
    rows take their time for.

    Args:
        linear: whose weights are rounded.
    """

    weight: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        rows = linear.weight.detach().float()
        scales = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        self.register_buffer("weight", (rows / scales[:, None]).round().to(torch.int8))
        self.register_buffer("scales", scales)
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:  # PyTorch's name
        """Map `input` (..., K) to (..., M)."""
        made = torch._weight_int8pack_mm(input.reshape(-1, input.shape[-1]), self.weight, self.scales.to(input.dtype))
        return (made if self.bias is None else made + self.bias).view(*input.shape[:-1], -1)
