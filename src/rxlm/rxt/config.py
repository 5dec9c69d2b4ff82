"""Configurations of the Reactive Transformer's components."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from rxlm.config import (
    Config,
    config,
    require,
    require_bool,
    require_choice,
    require_config,
    require_int,
)
from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.feed_forward import FeedForwardConfig
from rxlm.nn.heads import HeadCounts
from rxlm.nn.moe import ExpertsConfig
from rxlm.nn.norm import NORMS, NormKind
from rxlm.nn.sizes import WIDEST_HEAD, require_sizes
from rxlm.rxt import published
from rxlm.rxt.flat_fields import nested_fields

RxTInterlayerMemoryAttentionConfig = MemoryAttentionConfig
"""The name under which the RxT papers and their programs know `MemoryAttentionConfig`."""

FeedForwardKind = FeedForwardConfig | ExpertsConfig


@config
class ComponentConfig(Config):
    """What decoders and encoders have in common.

    Fields:
        num_layers: layers that belong to a memory layer each. A decoder's read it; an encoder's feed it.
        vocab_size, dim, max_seq_len: vocabulary V, model dimension D, longest interaction in tokens.
        attention: self-attention of the layers.
        memory_reader: the cross-attention with which a layer reads the memory. None: it reads none.
        feed_forward: of the layers: dense, or experts.
        norm: "rms" or "layer". norm_eps: epsilon of the norms, PyTorch's default when None.
        rope_base: base of the rotary embedding. rope_frequencies: see `RotaryEmbedding`.
        retention_gate: scores tokens for a memory that keeps the ones with the highest, see `rxlm.memory.retained`.
            None: nothing does. In decoders only.
    """

    flat_names: ClassVar = {
        **{
            name: (f"attention.{name}", f"memory_reader.{name}")
            for name in ("num_heads", "num_query_heads", "num_kv_heads", "head_dim")
        },
        "sliding_window": ("attention.sliding_window",),
        "qk_norm": ("attention.qk_norm",),
        "qkv_bias": ("attention.qkv_bias",),
        "attention_gate": ("attention.gate",),
        "attention_bias": ("attention.out_bias", "memory_reader.out_bias"),
        "attention_backend": ("attention.backend", "memory_reader.backend"),
        "memory_query_heads": ("memory_reader.num_query_heads",),
        "memory_kv_heads": ("memory_reader.num_kv_heads",),
        "memory_qk_norm": ("memory_reader.qk_norm",),
        "memory_attention_gate": ("memory_reader.gate",),
        "ff_dim": ("feed_forward.ff_dim",),
        "ff_gated": ("feed_forward.gated",),
        "ff_activation": ("feed_forward.activation",),
        "ff_bias": ("feed_forward.bias",),
        "num_experts": ("feed_forward.num_experts",),
        "experts_per_token": ("feed_forward.experts_per_token",),
        "num_shared_experts": ("feed_forward.num_shared_experts",),
        "shared_expert_dim": ("feed_forward.shared_ff_dim",),
        "expert_bias": ("feed_forward.bias",),
        "shared_expert_bias": ("feed_forward.shared_bias",),
        "weighted_shared_experts": ("feed_forward.weighted_shared",),
    }

    num_layers: int = 12
    vocab_size: int = 20000
    dim: int = 512
    max_seq_len: int = 1024
    attention: AttentionConfig = AttentionConfig()
    memory_reader: AttentionConfig | None = None
    feed_forward: FeedForwardKind = FeedForwardConfig()
    norm: NormKind = "rms"
    norm_eps: float | None = None
    rope_base: float = 10000.0
    rope_frequencies: tuple[float, ...] | None = None
    retention_gate: RetentionGateConfig | None = None

    def __post_init__(self) -> None:
        require_int(self, "num_layers", "vocab_size", "dim", "max_seq_len")
        require_sizes(self)
        require_config(self, "retention_gate", RetentionGateConfig, None)
        require_config(self, "attention", AttentionConfig)
        require_config(self, "memory_reader", AttentionConfig, None)
        require_config(self, "feed_forward", FeedForwardConfig, ExpertsConfig)
        require_choice(self, "norm", NORMS)
        require(self.rope_base > 0, f"{type(self).__name__}.rope_base must be positive, got {self.rope_base}.")
        self._check_heads()

    @classmethod
    def of(cls, values: Self | Mapping[str, Any]) -> Self:
        """Return the configuration that is given, or described: by its fields, by flat ones, or by published ones."""
        if isinstance(values, cls):
            return values
        require(isinstance(values, Mapping), f"{cls.__name__} is made of a dict of its fields, got {values!r}.")
        encoder = not issubclass(cls, DecoderConfig)
        if published.is_component(values):
            values = published.component_config(values, encoder=encoder)
        return cls.from_dict(nested_fields(values, encoder=encoder))

    @property
    def width_of_head(self) -> int:
        """Dimension d of an attention head."""
        return self.attention.width(self.dim)

    @property
    def attention_heads(self) -> HeadCounts:
        """Query and key/value heads of self-attention."""
        return self.attention.heads

    @property
    def memory_heads(self) -> HeadCounts:
        """Query and key/value heads of memory cross-attention."""
        return (self.memory_reader or self.attention).heads

    @property
    def longest_text(self) -> int:
        """Tokens that can be read at once; more than a turn's for a decoder whose memory is of tokens."""
        return self.max_seq_len

    @property
    def reads_memory(self) -> bool:
        """Whether the layers that belong to a memory layer read it."""
        return self.memory_reader is not None

    @property
    def sliding_window(self) -> int | None:
        """Positions that self-attention sees, None for all."""
        return self.attention.sliding_window

    @property
    def layer_kinds(self) -> tuple[tuple[FeedForwardKind, bool], ...]:
        """Feed-forward of every layer of the stack, and whether it belongs to a memory layer."""
        return ((self.feed_forward, True),) * self.num_layers

    @property
    def experts(self) -> ExpertsConfig | None:
        """The first layer of experts, None where all are dense."""
        return next((each for each, _ in self.layer_kinds if isinstance(each, ExpertsConfig)), None)

    def _check_heads(self) -> None:
        width, given = self.width_of_head, self.rope_frequencies
        require(width % 2 == 0, f"head_dim (dim / num_heads) must be even for rotary embedding, got {width}.")
        require(width <= WIDEST_HEAD, f"head_dim (dim / num_heads) must be at most {WIDEST_HEAD:,}, got {width}.")
        require(
            given is None or len(given) == width // 2,
            f"{type(self).__name__}.rope_frequencies must hold head_dim / 2 = {width // 2} numbers, "
            f"got {0 if given is None else len(given)}.",
        )
        if self.memory_reader is None:
            return
        reader = self.memory_reader.width(self.dim)
        require(
            reader == width,
            f"Heads of attention and memory_reader are turned by one rotary embedding: their widths must be equal, got "
            f"{width} and {reader}.",
        )
        window = self.memory_reader.sliding_window
        require(window is None, f"memory_reader.sliding_window={window} means nothing: slots have no positions.")


@config
class EncoderConfig(ComponentConfig):
    """Shape and kind of an encoder; all fields are those of `ComponentConfig`."""


@config
class DecoderConfig(ComponentConfig):
    """Shape and kind of a decoder.

    Fields, besides those of `ComponentConfig`:
        num_slots: memory slots S a layer.
        stateless_layers, final_stateless_layers: a feed-forward for each layer without memory that stands before, or
            after, the layers with memory.
        final_norm: the norm before the head, None for none.
        head_bias, tie_head: bias of the language-model head; whether it shares the embedding's weight.
        max_positions: positions that the rotary embedding may use for a turn and what a memory keeps before it; a token
            that was said longer ago is read as if it were max_positions - max_seq_len old. None: no limit.
    """

    num_slots: int = 1024
    memory_reader: AttentionConfig | None = AttentionConfig()
    stateless_layers: tuple[FeedForwardKind, ...] = ()
    final_stateless_layers: tuple[FeedForwardKind, ...] = ()
    final_norm: NormKind | None = "rms"
    head_bias: bool = False
    tie_head: bool = False
    max_positions: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "num_slots", "max_positions")
        require(
            self.max_positions is None or self.max_positions >= self.max_seq_len,
            f"DecoderConfig.max_positions must be at least max_seq_len={self.max_seq_len}, got {self.max_positions}.",
        )
        require_bool(self, "head_bias", "tie_head")
        require_choice(self, "final_norm", (None, *NORMS))
        for name in ("stateless_layers", "final_stateless_layers"):
            given = getattr(self, name)
            valid = isinstance(given, tuple) and all(isinstance(each, FeedForwardKind) for each in given)
            require(valid, f"DecoderConfig.{name} must hold a feed-forward for each layer, got {given!r}.")

    @property
    def longest_text(self) -> int:
        """Tokens that can be read at once."""
        return self.max_positions or self.max_seq_len

    @property
    def max_age(self) -> int | None:
        """Tokens after which a kept token is read as if it were no older."""
        return None if self.max_positions is None else self.max_positions - self.max_seq_len

    @property
    def layer_kinds(self) -> tuple[tuple[FeedForwardKind, bool], ...]:
        """Feed-forward of every layer of the stack, and whether it belongs to a memory layer."""
        before, after = (
            tuple((each, False) for each in given) for given in (self.stateless_layers, self.final_stateless_layers)
        )
        return (*before, *super().layer_kinds, *after)


class RxTComponentConfig(dict[str, Any]):
    """A decoder or an encoder by flat fields, as programs written for the RxT models describe them.

    It is a dict of these fields, checked when it is made; models and components take it for their configuration.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(fields)
        DecoderConfig.of(self)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, checked anew."""
        return type(self)(**{**self, **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the configuration from a dict of its fields."""
        require(isinstance(values, Mapping), f"{cls.__name__} is made of a dict of its fields, got {values!r}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return dict(self)


@config
class RxTAlphaTokenizerConfig(Config):
    """Ids of the special tokens that give an interaction its form.

    Fields:
        pad_token_id, eos_token_id: padding, and what an answer ends with.
        bos_token_id, query_token_id, answer_token_id: [BOS] and [Q], which an interaction begins with, and [A].
        think_token_id, tool_call_token_id, tool_use_token_id, internal_token_id: exist in Beta models only.
        query_prefix, answer_prefix: ids that stand before query and answer instead of `[BOS][Q]` and `[A]`: those of a
            pretrained model's chat template.
        conversation_prefix: ids that its template writes before the first turn, for a memory of tokens: [BOS], or a
            system prompt.
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
    conversation_prefix: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        names = [name for name in self.__dataclass_fields__ if name.endswith("_token_id")]
        for name in names:
            if getattr(self, name) is not None or not self._is_replaced(name):
                require_int(self, name, minimum=0)
        given = [getattr(self, name) for name in names if getattr(self, name) is not None]
        require(len(set(given)) == len(given), f"Special tokens need ids of their own, got {self.to_dict()}.")
        for name in ("query_prefix", "answer_prefix", "conversation_prefix"):
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
