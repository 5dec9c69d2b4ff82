"""What a Llama-style language model looks like: each field of its configuration is used, harmless, or refused."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from rxlm.nn.model_files import UnsupportedModelError

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
ROPE_TYPES = ("default", "linear", "llama3", "yarn")

_USED = {
    "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "max_position_embeddings",
    "num_attention_heads", "num_key_value_heads", "head_dim", "attention_bias", "rms_norm_eps", "hidden_act",
    "tie_word_embeddings", "rope_parameters",
}  # fmt: skip
_HARMLESS = {
    *PreTrainedConfig().to_dict(), "attention_dropout", "initializer_range", "use_cache", "bos_token_id",
    "eos_token_id", "pad_token_id", "max_window_layers",
}  # fmt: skip
"""Fields that change no logits of a model that is not trained, or nothing without one that is refused."""


@dataclass(frozen=True)
class LlamaShape:
    """What a Llama-style model looks like.

    Fields:
        dim, ff_dim, num_layers, vocab_size, max_positions: D, of the feed-forward, layers, V, and longest text.
        num_heads, num_kv_heads, head_dim: of attention.
        qk_norm, qkv_bias, out_bias: whether its attention has them. norm_eps: of all norms.
        activation, tied_head, sliding_window, rope: of the feed-forward; whether the head has the embedding's weights;
            in tokens; parameters of the rotary embedding as in `transformers`.
    """

    dim: int
    ff_dim: int
    num_layers: int
    vocab_size: int
    max_positions: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    qk_norm: bool
    qkv_bias: bool
    out_bias: bool
    norm_eps: float
    activation: str
    tied_head: bool
    sliding_window: int | None
    rope: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any], defaults: Mapping[str, Any], name: str = "the model") -> "LlamaShape":
        """Read the values of a configuration of `transformers`; `UnsupportedModelError` where its layers are others.

        Args:
            config: the values.
            defaults: those of a configuration of its class without arguments: other fields are read by no model.
            name: of the model, for messages.
        """
        kind = config.get("model_type")
        if kind not in MODEL_TYPES:
            raise UnsupportedModelError(
                f"{name}: a model of type {kind!r} is not supported; {', '.join(MODEL_TYPES)} are."
            )
        rope = dict(config.get("rope_parameters") or {"rope_type": "default", "rope_theta": 10000.0})
        _check_fields(config, defaults, f"{name}: a {kind} model")
        _check_rope(rope, name)
        heads = config["num_attention_heads"]
        biased = config.get("attention_bias", False)
        return cls(
            dim=config["hidden_size"],
            ff_dim=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            vocab_size=config["vocab_size"],
            max_positions=config["max_position_embeddings"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            qk_norm=kind == "qwen3",
            qkv_bias=biased or kind == "qwen2",
            out_bias=biased,
            norm_eps=config["rms_norm_eps"],
            activation=config["hidden_act"],
            tied_head=config.get("tie_word_embeddings", False),
            sliding_window=config.get("sliding_window") if kind == "mistral" else None,
            rope=rope,
        )


def _check_fields(config: Mapping[str, Any], defaults: Mapping[str, Any], name: str) -> None:
    """Refuse each field that is neither used nor harmless and is not as it is by default; true is not 1."""
    for field in ("attention_bias", "tie_word_embeddings"):
        if not isinstance(config.get(field, False), bool):
            raise UnsupportedModelError(f"{name} with {field}={config[field]!r} is not supported: true or false is.")
    for field in sorted(defaults.keys() - _USED - _HARMLESS):
        value, usual = config.get(field, defaults[field]), defaults[field]
        if field == "sliding_window" and (config["model_type"] == "mistral" or not config.get("use_sliding_window")):
            continue
        if field == "layer_types":
            usual, value = ["full_attention"], sorted(set(value or usual))
        if value is not None and (value != usual or isinstance(value, bool) != isinstance(usual, bool)):
            raise UnsupportedModelError(f"{name} with {field}={value!r} is not supported; {usual!r} is.")


def _check_rope(rope: Mapping[str, Any], name: str) -> None:
    if rope.get("rope_type", "default") not in ROPE_TYPES:
        raise UnsupportedModelError(
            f"{name}: rotary embedding of the type {rope.get('rope_type')!r} is not supported; {', '.join(ROPE_TYPES)} "
            "are."
        )
    for field in rope.keys() - {"rope_type", "type"}:
        value = rope[field]
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise UnsupportedModelError(f"{name}: rotary embedding with {field}={value!r:.80}; a number is expected.")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModelError(
            f"{name}: rotary embedding of a part of a head is not supported: partial_rotary_factor="
            f"{rope['partial_rotary_factor']!r}; 1 is."
        )
