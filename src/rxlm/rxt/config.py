"""Configurations of the Reactive Transformer's components."""

from typing import Literal, get_args

from rxlm.memory.config import MemoryAttentionConfig
from rxlm.nn.attention import BACKENDS, AttentionBackend, check_head_counts
from rxlm.nn.config import (
    Config,
    ConfigError,
    config,
    require,
    require_bool,
    require_choice,
    require_int,
    require_number,
)
from rxlm.nn.feed_forward import ACTIVATIONS
from rxlm.nn.moe import EXPERT_BIASES, ExpertBias
from rxlm.nn.norm import NORMS, NormKind

FeedForwardKind = Literal["dense", "moe"]
FEED_FORWARDS: tuple[FeedForwardKind, ...] = get_args(FeedForwardKind)

RxTInterlayerMemoryAttentionConfig = MemoryAttentionConfig
"""The name under which the RxT papers and their programs know `MemoryAttentionConfig`."""


@config
class RxTComponentConfig(Config):
    """Shape and kind of a decoder or an encoder.

    Fields:
        num_layers: layers that belong to a memory layer each. A decoder's read it; an encoder's feed it.
        vocab_size, dim, max_seq_len: vocabulary V, model dimension D, longest interaction in tokens.
        num_slots: memory slots S a layer.
        num_heads, num_query_heads, num_kv_heads: heads of self-attention, see `nn.Attention`.
        memory_query_heads, memory_kv_heads: heads of memory cross-attention; those of self-attention when None.
        reads_memory: whether layers have memory cross-attention; None: a decoder's have, an encoder's have not.
        sliding_window: positions that self-attention sees, None for all.
        qk_norm: RMSNorm on queries and keys of self-attention.
        attention_gate, memory_attention_gate: activation of a gate on the attentions' outputs, None for none.
        attention_bias: bias of the attentions' output projections.
        feed_forward: "dense" or "moe" in the layers with memory; None: "moe" where there are experts.
        ff_dim, ff_gated, ff_activation, ff_bias: hidden dimension (of each expert), GLU or plain, activation, bias.
        num_experts, experts_per_token, num_shared_experts, shared_expert_dim, expert_bias, shared_expert_bias,
            weighted_shared_experts: see `nn.MixtureOfExperts`.
        stateless_layers, final_stateless_layers: a feed-forward kind for each layer without memory that stands
            before, or after, the layers with memory (decoders).
        dense_ff_dim: hidden dimension of dense stateless layers, ff_dim when None.
        norm: "rms" or "layer". final_norm: the norm before the head, None for none.
        head_bias, tie_head: bias of the language-model head; whether it shares the embedding's weight.
        rope_base: base of the rotary embedding.
        attention_backend: "sdpa", "flash" or "auto", see `nn.Attention`.
    """

    num_layers: int = 12
    vocab_size: int = 20000
    dim: int = 512
    max_seq_len: int = 1024
    num_slots: int = 1024
    num_heads: int = 16
    num_query_heads: int | None = None
    num_kv_heads: int | None = None
    memory_query_heads: int | None = None
    memory_kv_heads: int | None = None
    reads_memory: bool | None = None
    sliding_window: int | None = None
    qk_norm: bool = False
    attention_gate: str | None = None
    memory_attention_gate: str | None = None
    attention_bias: bool = False
    feed_forward: FeedForwardKind | None = None
    ff_dim: int = 1536
    ff_gated: bool = True
    ff_activation: str = "silu"
    ff_bias: bool = False
    num_experts: int = 0
    experts_per_token: int = 1
    num_shared_experts: int = 0
    shared_expert_dim: int | None = None
    expert_bias: ExpertBias = "none"
    shared_expert_bias: ExpertBias = "none"
    weighted_shared_experts: bool = False
    stateless_layers: tuple[FeedForwardKind, ...] = ()
    final_stateless_layers: tuple[FeedForwardKind, ...] = ()
    dense_ff_dim: int | None = None
    norm: NormKind = "rms"
    final_norm: NormKind | None = "rms"
    head_bias: bool = False
    tie_head: bool = False
    rope_base: float = 10000.0
    attention_backend: AttentionBackend = "sdpa"

    def __post_init__(self) -> None:
        for name in ("stateless_layers", "final_stateless_layers"):
            kinds = getattr(self, name)
            valid = isinstance(kinds, tuple) and all(kind in FEED_FORWARDS for kind in kinds)
            require(valid, f"RxTComponentConfig.{name} lists 'dense' or 'moe' for each layer, got {kinds!r}.")
        require_int(self, "num_layers", "vocab_size", "dim", "max_seq_len", "num_slots", "num_heads", "ff_dim")
        require_int(self, "num_query_heads", "num_kv_heads", "memory_query_heads", "memory_kv_heads")
        require_int(self, "sliding_window", "shared_expert_dim", "dense_ff_dim", "experts_per_token")
        require_int(self, "num_experts", "num_shared_experts", minimum=0)
        require_bool(self, "qk_norm", "attention_bias", "ff_gated", "ff_bias", "weighted_shared_experts")
        require_bool(self, "head_bias", "tie_head")
        require_choice(self, "reads_memory", (None, True, False))
        require_choice(self, "feed_forward", (None, *FEED_FORWARDS))
        require_choice(self, "ff_activation", tuple(ACTIVATIONS))
        require_choice(self, "attention_gate", (None, *ACTIVATIONS))
        require_choice(self, "memory_attention_gate", (None, *ACTIVATIONS))
        require_choice(self, "norm", NORMS)
        require_choice(self, "final_norm", (None, *NORMS))
        require_choice(self, "expert_bias", EXPERT_BIASES)
        require_choice(self, "shared_expert_bias", EXPERT_BIASES)
        require_choice(self, "attention_backend", BACKENDS)
        require_number(self, "rope_base")
        require(self.rope_base > 0, f"RxTComponentConfig.rope_base must be positive, got {self.rope_base}.")
        self._check_heads()
        self._check_experts()

    @property
    def head_dim(self) -> int:
        """Dimension of an attention head."""
        return self.dim // self.num_heads

    @property
    def attention_heads(self) -> tuple[int, int]:
        """Query and key/value heads of self-attention."""
        query = self.num_query_heads or self.num_heads
        return query, self.num_kv_heads or query

    @property
    def memory_heads(self) -> tuple[int, int]:
        """Query and key/value heads of memory cross-attention."""
        query, kv = self.attention_heads
        return self.memory_query_heads or query, self.memory_kv_heads or kv

    @property
    def memory_layer_kind(self) -> FeedForwardKind:
        """Feed-forward kind of the layers that belong to a memory layer."""
        return self.feed_forward or ("moe" if self.num_experts else "dense")

    def _check_heads(self) -> None:
        for heads in (self.attention_heads, self.memory_heads):
            try:
                check_head_counts(self.dim, self.num_heads, *heads)
            except ValueError as error:
                raise ConfigError(f"RxTComponentConfig: {error}") from None
        even = self.head_dim % 2 == 0
        require(even, f"dim / num_heads must be even for rotary embedding, got {self.dim} / {self.num_heads}.")

    def _check_experts(self) -> None:
        kinds = (self.memory_layer_kind, *self.stateless_layers, *self.final_stateless_layers)
        require(
            "moe" not in kinds or self.num_experts > 0, "Layers of kind 'moe' need num_experts of at least 1, got 0."
        )
        fits = self.num_experts == 0 or self.experts_per_token <= self.num_experts
        require(fits, f"experts_per_token is {self.experts_per_token} of num_experts={self.num_experts}.")


@config
class RxTAlphaTokenizerConfig(Config):
    """Ids of the special tokens that give an interaction its form; the last four exist in Beta models only."""

    pad_token_id: int = 0
    bos_token_id: int = 2
    eos_token_id: int = 3
    query_token_id: int = 5
    answer_token_id: int = 6
    think_token_id: int | None = None
    tool_call_token_id: int | None = None
    tool_use_token_id: int | None = None
    internal_token_id: int | None = None

    def __post_init__(self) -> None:
        require_int(self, *self.__dataclass_fields__, minimum=0)
        given = [value for value in self.to_dict().values() if value is not None]
        require(len(set(given)) == len(given), f"Special tokens need ids of their own, got {self.to_dict()}.")
