"""Position-wise feed-forward layers: plain, and gated (GLU family; SwiGLU with the SiLU activation)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.config import Config, config, require_bool, require_choice, require_int
from rxlm.shapes import Float

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}


@config
class FeedForwardConfig(Config):
    """Kind of a dense feed-forward, and what builds it.

    Fields:
        ff_dim: hidden dimension. gated: GLU, or plain. activation: one of `ACTIVATIONS`.
        bias: of both projections.
    """

    ff_dim: int = 1536
    gated: bool = True
    activation: str = "silu"
    bias: bool = False

    def __post_init__(self) -> None:
        require_int(self, "ff_dim")
        require_bool(self, "gated", "bias")
        require_choice(self, "activation", tuple(ACTIVATIONS))

    def build(self, dim: int) -> "FeedForward":
        """Return such a feed-forward for a model of dimension `dim`."""
        return FeedForward(dim, self)


class FeedForward(nn.Module):
    """`out_proj(a * act(g))` with `[a, g] = in_proj(x)` if gated (Shazeer, 2020), else `out_proj(act(in_proj(x)))`."""

    def __init__(self, dim: int, config: FeedForwardConfig) -> None:
        super().__init__()
        self.gated = config.gated
        self.activation = ACTIVATIONS[config.activation]
        self.in_proj = nn.Linear(dim, 2 * config.ff_dim if config.gated else config.ff_dim, bias=config.bias)
        self.out_proj = nn.Linear(config.ff_dim, dim, bias=config.bias)

    def forward(self, x: Float[Tensor, "*B D"], routing: object = None) -> Float[Tensor, "*B D"]:
        """Transform `x` (..., dim) to the same shape; `routing` is for expert layers and unused here."""
        return self.out_proj(activate(self.in_proj(x), self.activation, self.gated))


def activate(hidden: Tensor, activation: Activation, gated: bool) -> Tensor:
    """Apply the activation to a hidden layer (..., F), or to the gate half of a gated one (..., 2F)."""
    if not gated:
        return activation(hidden)
    value, gate = hidden.chunk(2, dim=-1)
    return value * activation(gate)
