"""Position-wise feed-forward layers: plain, and gated (GLU family; SwiGLU with the SiLU activation)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}


class FeedForward(nn.Module):
    """`out_proj(a * act(g))` with `[a, g] = in_proj(x)` if gated (Shazeer, 2020), else `out_proj(act(in_proj(x)))`."""

    def __init__(
        self, dim: int, hidden_dim: int, *, gated: bool = True, activation: str = "silu", bias: bool = False
    ) -> None:
        super().__init__()
        self.gated = gated
        self.activation = ACTIVATIONS[activation]
        self.in_proj = nn.Linear(dim, 2 * hidden_dim if gated else hidden_dim, bias=bias)
        self.out_proj = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Tensor, routing: object = None) -> Tensor:
        """Transform `x` (..., dim) to the same shape; `routing` is for expert layers and unused here."""
        return self.out_proj(activate(self.in_proj(x), self.activation, self.gated))


def activate(hidden: Tensor, activation: Activation, gated: bool) -> Tensor:
    """Apply the activation to a hidden layer (..., F), or to the gate half of a gated one (..., 2F)."""
    if not gated:
        return activation(hidden)
    value, gate = hidden.chunk(2, dim=-1)
    return value * activation(gate)
