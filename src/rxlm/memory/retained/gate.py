"""The gate that says how long a token is worth keeping.

Shapes: B conversations, T tokens, D model dimension, H key/value heads.
"""

from torch import Tensor, nn

from rxlm.config import Config, config, require_bool, require_int
from rxlm.shapes import Float


@config
class RetentionGateConfig(Config):
    """The gate of a layer.

    Fields:
        hidden_dim: width of its hidden layer.
        per_head: whether each key/value head has scores of its own, or all of a layer share one.
    """

    hidden_dim: int = 96
    per_head: bool = True

    def __post_init__(self) -> None:
        require_int(self, "hidden_dim")
        require_bool(self, "per_head")

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
        self.out_proj = nn.Linear(config.hidden_dim, num_kv_heads if config.per_head else 1, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B H T"]:
        """Return the scores, in float32."""
        scores = self.out_proj(self.activation(self.in_proj(x))).float().transpose(1, 2)
        return scores.expand(-1, self.num_kv_heads, -1)
