"""The gate that says how long a token is worth keeping.

Shapes: B conversations, T tokens, D model dimension, H key/value heads.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from rxlm.config import Config, config, require_choice, require_int
from rxlm.shapes import Float

Granularity = Literal["head", "layer", "token"]


@config
class RetentionGateConfig(Config):
    """The gate of a layer.

    Fields:
        hidden_dim: width of its hidden layer.
        granularity: what has a score of its own: a token in each key/value "head", in each "layer", or the "token"
            itself: then the first layer alone has a gate, and all layers and heads keep the same tokens. What the first
            layer reads is the embedding, which knows nothing of a memory, so that all turns can be read at once; such a
            score says what the token is, not where it stands.
    """

    hidden_dim: int = 96
    granularity: Granularity = "head"

    def __post_init__(self) -> None:
        require_int(self, "hidden_dim")
        require_choice(self, "granularity", get_args(Granularity))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build it from plain values; those of models that were saved first have `per_head`, True or False."""
        values = dict(values)
        if "per_head" in values:
            values["granularity"] = "head" if values.pop("per_head") else "layer"
        return super().from_dict(values)

    def num_gates(self, num_layers: int) -> int:
        """Return how many of so many layers, the first ones, have a gate."""
        return 1 if self.granularity == "token" else num_layers

    def build(self, dim: int, num_kv_heads: int) -> "RetentionGate":
        """Return the gate of a layer of a model of dimension `dim`."""
        return RetentionGate(dim, num_kv_heads, self)


class RetentionGate(nn.Module):
    """Scores tokens by what self-attention reads of them: s = W2 silu(W1 x + b), for each key/value head.

    W2 is zero at first: all tokens are equal, and the newest are kept. A score never changes, so that which tokens are
    kept does not depend on how a conversation was divided into turns (TRIM-KV, arXiv 2512.03324, has such gates).
    """

    def __init__(self, dim: int, num_kv_heads: int, config: RetentionGateConfig) -> None:
        super().__init__()
        self.num_kv_heads = num_kv_heads
        self.in_proj = nn.Linear(dim, config.hidden_dim)
        self.activation = nn.SiLU()
        self.out_proj = nn.Linear(config.hidden_dim, num_kv_heads if config.granularity == "head" else 1, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B H T"]:
        """Return the scores, in float32; they are compared, so mixed precision does not round them."""
        with _in_full(x.device.type):
            scores = self.out_proj(self.activation(self.in_proj(x.to(self.in_proj.weight.dtype))))
        return scores.float().transpose(1, 2).expand(-1, self.num_kv_heads, -1)


def _in_full(device: str) -> AbstractContextManager[Any]:
    """Compute without mixed precision, where it is in use."""
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if mixed else nullcontext()
