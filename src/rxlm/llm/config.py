"""Configuration of the decoder-only language model, as `transformers` keeps it."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from rxlm.nn.attention import AttentionConfig
from rxlm.nn.feed_forward import ACTIVATIONS, FeedForwardConfig
from rxlm.nn.heads import head_counts
from rxlm.nn.moe import ExpertsConfig

ROPE_TYPES = ("default", "linear", "llama3")
MODEL_TYPE = "rxlm_decoder"


@strict
class DecoderLMConfig(PreTrainedConfig):
    """Shape and kind of a decoder-only language model; names as in the models of `transformers`.

    Fields:
        vocab_size, hidden_size, num_hidden_layers, num_attention_heads: V, D, layers, heads H of the model.
        attention: kind of attention: mha, gqa, mqa, sqa, ssqa, xsqa, xsmqa, lsqa or rsqa, in the proportions of the SQA
            paper (see `rxlm.nn.attention.head_counts`). None: num_query_heads and num_key_value_heads are given.
        num_query_heads, num_key_value_heads: heads of the queries, and of keys and values; those of `attention`.
        head_dim: dimension of a head, hidden_size / num_attention_heads when None.
        sliding_window: a token sees only those less than so many positions before it; None: all.
        qk_norm: RMSNorm on queries and keys. attention_bias: biases of their projections and of the values'.
        attention_output_bias: bias of the output projection.
        intermediate_size, hidden_act: hidden dimension (of each expert), and activation, of the gated feed-forward.
        num_experts: experts of a layer, 0 for a dense feed-forward. num_experts_per_tok, num_shared_experts: see
            `rxlm.nn.moe.MixtureOfExperts`. router_aux_loss_coef: weight of their load-balancing loss.
        rms_norm_eps, rope_parameters, max_position_embeddings, tie_word_embeddings, initializer_range, use_cache: as
            in Llama. Rotary embeddings are of the types default, linear or llama3.

    Raises ValueError where they do not fit together.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  the library's own form

    vocab_size: int = 32000
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 8
    num_attention_heads: int = 16
    attention: str | None = "sqa"
    num_query_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    sliding_window: int | None = None
    qk_norm: bool = False
    attention_bias: bool = False
    attention_output_bias: bool = False
    hidden_act: str = "silu"
    num_experts: int = 0
    num_experts_per_tok: int = 2
    num_shared_experts: int = 0
    router_aux_loss_coef: float = 0.01
    rms_norm_eps: float = 1e-6
    rope_parameters: dict[str, Any] | None = None
    max_position_embeddings: int = 2048
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self._fill_head_counts()
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)
        kind = (self.rope_parameters or {}).get("rope_type", "default")
        if kind not in ROPE_TYPES:
            raise ValueError(f"rope_parameters has the type {kind!r}; supported are {', '.join(ROPE_TYPES)}.")

    def _fill_head_counts(self) -> None:
        given = (self.num_query_heads, self.num_key_value_heads)
        if self.attention is None:
            if None in given:
                raise ValueError(
                    "Without a kind of attention, num_query_heads and num_key_value_heads must be given; got "
                    f"{given[0]} and {given[1]}."
                )
            return
        counts = head_counts(self.attention, self.num_attention_heads)
        for name, wanted, has in zip(("num_query_heads", "num_key_value_heads"), counts, given, strict=True):
            if has not in (None, wanted):
                raise ValueError(
                    f"attention={self.attention!r} with {self.num_attention_heads} heads has {name}={wanted}, "
                    f"got {has}. For other counts set attention to None."
                )
        self.num_query_heads, self.num_key_value_heads = counts

    def validate_architecture(self) -> None:
        """Check what fields must be to each other; called by the library."""
        own_head_dim = self.head_dim if self.head_dim != self.hidden_size // self.num_attention_heads else None
        width = self.attention_config.replace(head_dim=own_head_dim).width(self.hidden_size)
        if width % 2:
            raise ValueError(f"head_dim must be even for rotary embedding, got {width}.")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act must be one of {', '.join(ACTIVATIONS)}, got {self.hidden_act!r}.")
        if self.num_experts and not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise ValueError(
                f"num_experts_per_tok must be between 1 and num_experts={self.num_experts}, "
                f"got {self.num_experts_per_tok}."
            )

    @property
    def attention_config(self) -> AttentionConfig:
        """The layers' attention."""
        return AttentionConfig(
            num_heads=self.num_attention_heads,
            num_query_heads=self.num_query_heads,
            num_kv_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            qk_norm=self.qk_norm,
            qkv_bias=self.attention_bias,
            out_bias=self.attention_output_bias,
            sliding_window=self.sliding_window,
        )

    @property
    def feed_forward_config(self) -> FeedForwardConfig | ExpertsConfig:
        """The layers' feed-forward."""
        if not self.num_experts:
            return FeedForwardConfig(ff_dim=self.intermediate_size, activation=self.hidden_act)
        return ExpertsConfig(
            num_experts=self.num_experts,
            experts_per_token=self.num_experts_per_tok,
            ff_dim=self.intermediate_size,
            num_shared_experts=self.num_shared_experts,
            activation=self.hidden_act,
        )
