"""Configurations of the Reactive Transformer's components."""

from typing import Literal, get_args

from rxlm.config import (
    Config,
    ConfigError,
    config,
    require,
    require_bool,
    require_choice,
    require_int,
    require_number,
)
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.nn.attention import BACKENDS, AttentionBackend, check_head_counts
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
        memory_layers, depth: numbers of these layers in a stack of `depth` layers, from 0, where stateless ones stand
            between them; None: they stand together.
        vocab_size, dim, max_seq_len: vocabulary V, model dimension D, longest interaction in tokens.
        num_slots: memory slots S a layer.
        num_heads, num_query_heads, num_kv_heads, head_dim: heads of self-attention, see `nn.Attention`; head_dim is
            dim / num_heads when None.
        memory_query_heads, memory_kv_heads: heads of memory cross-attention; those of self-attention when None.
        memory_qk_norm: RMSNorm on queries and keys of memory cross-attention.
        reads_memory: whether layers have memory cross-attention; None: a decoder's have, an encoder's have not.
        sliding_window: positions that self-attention sees, None for all.
        qk_norm: RMSNorm on queries and keys of self-attention.
        attention_gate, memory_attention_gate: activation of a gate on the attentions' outputs, None for none.
        attention_bias: bias of the attentions' output projections. qkv_bias: of self-attention's other projections.
        feed_forward: "dense" or "moe" in the layers with memory; None: "moe" where there are experts.
        ff_dim, ff_gated, ff_activation, ff_bias: hidden dimension (of each expert), GLU or plain, activation, bias.
        num_experts, experts_per_token, num_shared_experts, shared_expert_dim, expert_bias, shared_expert_bias,
            weighted_shared_experts: see `nn.MixtureOfExperts`.
        stateless_layers, final_stateless_layers: a feed-forward kind for each layer without memory that stands
            before, or after, the layers with memory (decoders).
        dense_ff_dim: hidden dimension of dense stateless layers, ff_dim when None.
        norm: "rms" or "layer". final_norm: the norm before the head, None for none. norm_eps: epsilon of the norms,
            PyTorch's default when None.
        head_bias, tie_head: bias of the language-model head; whether it shares the embedding's weight.
        rope_base: base of the rotary embedding. rope_frequencies: see `RotaryEmbedding`.
        attention_backend: "sdpa", "flash" or "auto", see `nn.Attention`.
    """

    num_layers: int = 12
    memory_layers: tuple[int, ...] | None = None
    depth: int | None = None
    vocab_size: int = 20000
    dim: int = 512
    max_seq_len: int = 1024
    num_slots: int = 1024
    num_heads: int = 16
    num_query_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    memory_query_heads: int | None = None
    memory_kv_heads: int | None = None
    memory_qk_norm: bool = False
    reads_memory: bool | None = None
    sliding_window: int | None = None
    qk_norm: bool = False
    attention_gate: str | None = None
    memory_attention_gate: str | None = None
    attention_bias: bool = False
    qkv_bias: bool = False
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
    norm_eps: float | None = None
    head_bias: bool = False
    tie_head: bool = False
    rope_base: float = 10000.0
    rope_frequencies: tuple[float, ...] | None = None
    attention_backend: AttentionBackend = "sdpa"

    def __post_init__(self) -> None:
        for name in ("stateless_layers", "final_stateless_layers"):
            kinds = getattr(self, name)
            valid = isinstance(kinds, tuple) and all(kind in FEED_FORWARDS for kind in kinds)
            require(valid, f"RxTComponentConfig.{name} lists 'dense' or 'moe' for each layer, got {kinds!r}.")
        require_int(self, "num_layers", "vocab_size", "dim", "max_seq_len", "num_slots", "num_heads", "ff_dim")
        require_int(self, "num_query_heads", "num_kv_heads", "memory_query_heads", "memory_kv_heads")
        require_int(
            self, "sliding_window", "shared_expert_dim", "dense_ff_dim", "experts_per_token", "head_dim", "depth"
        )
        require_int(self, "num_experts", "num_shared_experts", minimum=0)
        require_bool(self, "qk_norm", "attention_bias", "ff_gated", "ff_bias", "weighted_shared_experts")
        require_bool(self, "head_bias", "tie_head", "qkv_bias", "memory_qk_norm")
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
        require_number(self, "rope_base", "norm_eps")
        require(self.rope_base > 0, f"RxTComponentConfig.rope_base must be positive, got {self.rope_base}.")
        self._check_heads()
        self._check_experts()
        self._check_memory_layers()

    @property
    def width_of_head(self) -> int:
        """Dimension d of an attention head."""
        return self.head_dim or self.dim // self.num_heads

    @property
    def layer_kinds(self) -> tuple[tuple[FeedForwardKind, bool], ...]:
        """Feed-forward kind of every layer of the stack, and whether it belongs to a memory layer."""
        kind = self.memory_layer_kind
        if self.memory_layers is not None:
            assert self.depth is not None
            return tuple((kind, number in self.memory_layers) for number in range(self.depth))
        before, after = (
            [(each, False) for each in kinds] for kinds in (self.stateless_layers, self.final_stateless_layers)
        )
        return (*before, *[(kind, True)] * self.num_layers, *after)

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
                check_head_counts(self.dim, self.num_heads, *heads, self.head_dim)
            except ValueError as error:
                raise ConfigError(f"RxTComponentConfig: {error}") from None
        width = self.width_of_head
        require(width % 2 == 0, f"head_dim (dim / num_heads) must be even for rotary embedding, got {width}.")
        given = self.rope_frequencies
        require(
            given is None or len(given) == width // 2,
            f"RxTComponentConfig.rope_frequencies must hold head_dim / 2 = {width // 2} numbers, "
            f"got {0 if given is None else len(given)}.",
        )

    def _check_memory_layers(self) -> None:
        layers = self.memory_layers
        if layers is None:
            require(self.depth is None, f"RxTComponentConfig.depth={self.depth} is for stacks with memory_layers.")
            return
        depth = self.depth or 0
        ascending = all(isinstance(layer, int) for layer in layers) and list(layers) == sorted(set(layers))
        require(
            len(layers) == self.num_layers and ascending and layers[0] >= 0 and layers[-1] < depth,
            f"RxTComponentConfig.memory_layers must be num_layers={self.num_layers} ascending numbers from 0 to "
            f"depth - 1 = {depth - 1}, got {list(layers)}.",
        )
        require(
            not self.stateless_layers and not self.final_stateless_layers,
            "RxTComponentConfig: memory_layers already say where stateless layers stand; stateless_layers and "
            "final_stateless_layers must be empty.",
        )

    def _check_experts(self) -> None:
        kinds = (self.memory_layer_kind, *self.stateless_layers, *self.final_stateless_layers)
        require(
            "moe" not in kinds or self.num_experts > 0, "Layers of kind 'moe' need num_experts of at least 1, got 0."
        )
        fits = self.num_experts == 0 or self.experts_per_token <= self.num_experts
        require(fits, f"experts_per_token is {self.experts_per_token} of num_experts={self.num_experts}.")


@config
class RxTAlphaTokenizerConfig(Config):
    """Ids of the special tokens that give an interaction its form.

    Fields:
        pad_token_id, eos_token_id: padding, and what an answer ends with.
        bos_token_id, query_token_id, answer_token_id: [BOS] and [Q], which an interaction begins with, and [A].
        think_token_id, tool_call_token_id, tool_use_token_id, internal_token_id: exist in Beta models only.
        query_prefix, answer_prefix: ids that stand before query and answer instead of `[BOS][Q]` and `[A]`: those of a
            pretrained model's chat template.
    """

    pad_token_id: int = 0
    bos_token_id: int = 2
    eos_token_id: int = 3
    query_token_id: int | None = 5
    answer_token_id: int | None = 6
    think_token_id: int | None = None
    tool_call_token_id: int | None = None
    tool_use_token_id: int | None = None
    internal_token_id: int | None = None
    query_prefix: tuple[int, ...] | None = None
    answer_prefix: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        names = [name for name in self.__dataclass_fields__ if name.endswith("_token_id")]
        for name in names:
            if getattr(self, name) is not None or not self._is_replaced(name):
                require_int(self, name, minimum=0)
        given = [getattr(self, name) for name in names if getattr(self, name) is not None]
        require(len(set(given)) == len(given), f"Special tokens need ids of their own, got {self.to_dict()}.")
        for name in ("query_prefix", "answer_prefix"):
            ids = getattr(self, name)
            valid = ids is None or (bool(ids) and all(isinstance(each, int) and each >= 0 for each in ids))
            require(valid, f"RxTAlphaTokenizerConfig.{name} must be token ids, at least one, or None, got {ids!r}.")

    def _is_replaced(self, name: str) -> bool:
        """Tell whether a special token may be missing because a prefix stands in its place."""
        prefix = {"query_token_id": self.query_prefix, "answer_token_id": self.answer_prefix}.get(name)
        return prefix is not None

    @property
    def before_query(self) -> tuple[int, ...]:
        """What an interaction begins with."""
        if self.query_prefix is not None:
            return self.query_prefix
        assert self.query_token_id is not None
        return self.bos_token_id, self.query_token_id

    @property
    def before_answer(self) -> tuple[int, ...]:
        """What stands between query, or thought, and answer."""
        if self.answer_prefix is not None:
            return self.answer_prefix
        assert self.answer_token_id is not None
        return (self.answer_token_id,)
