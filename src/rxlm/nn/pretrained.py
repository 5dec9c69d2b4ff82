"""Weights of Llama-style language models (Llama, Mistral, Qwen2, Qwen3) as those of layers here.

Two things differ: here a feed-forward's two input projections are one, and rotary embedding turns neighbouring numbers
of a head, where theirs turns number i together with number i + d / 2.

Shapes: D model dimension, H heads, d head dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, util
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rxlm.nn.gguf_reading import GGUFReading
from rxlm.nn.model_files import UnsupportedModelError, check_folder, check_gguf, check_hub
from rxlm.nn.weights import TELL_ALL, check_loaded

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
ROPE_TYPES = ("default", "linear", "llama3")


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
    def of(cls, config: Mapping[str, Any]) -> "LlamaShape":
        """Read the values of a configuration of `transformers`; UnsupportedModelError where its layers are others."""
        kind = config.get("model_type")
        if kind not in MODEL_TYPES:
            raise UnsupportedModelError(f"A model of type {kind!r} is not supported; {', '.join(MODEL_TYPES)} are.")
        for name in ("mlp_bias", "use_sliding_window", "pretraining_tp"):
            if config.get(name) not in (None, False, 1):
                raise UnsupportedModelError(f"A {kind} model with {name}={config[name]!r} is not supported.")
        rope = dict(config.get("rope_parameters") or {"rope_type": "default", "rope_theta": 10000.0})
        if rope.get("rope_type", "default") not in ROPE_TYPES:
            raise UnsupportedModelError(
                f"Rotary embedding of the type {rope['rope_type']!r} is not supported; {', '.join(ROPE_TYPES)} are."
            )
        heads = config["num_attention_heads"]
        biased = bool(config.get("attention_bias", False))
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
            tied_head=bool(config.get("tie_word_embeddings", False)),
            sliding_window=config.get("sliding_window") if kind == "mistral" else None,
            rope=rope,
        )


class Address(NamedTuple):
    """Where `transformers` finds a model: what its loaders take first, and by name."""

    place: str
    options: dict[str, Any]

    @classmethod
    def of(cls, model: str | Path) -> "Address":
        """Take a folder, an id on the hub, or a GGUF file, which `transformers` reads with the package gguf."""
        path = Path(model).expanduser()
        if path.suffix == ".gguf":
            if not path.is_file():
                raise FileNotFoundError(f"There is no GGUF file {path}.")
            return cls(str(path.parent), {"gguf_file": path.name})
        return cls(str(path) if path.is_dir() else str(model), {})

    @property
    def name(self) -> str:
        """The folder, hub id or file."""
        return "/".join([self.place, *self.options.values()])

    def load(self, loader: Any, **options: Any) -> Any:
        """Load with a class of `transformers`; `UnsupportedModelError` for whatever it cannot read.

        Code that comes with a model is never run, and nobody is asked whether it should be.
        """
        self._check()
        try:
            return loader.from_pretrained(self.place, **self.options, **options, trust_remote_code=False)
        except Exception as error:  # damaged files raise whatever their bytes lead to
            raise UnsupportedModelError(
                f"{self.name} cannot be read by transformers ({type(error).__name__}: {error})."
            ) from error

    def load_model(self, loader: Any, **options: Any) -> Any:
        """Load a model; `WeightsError` where not all of its weights are there, and numbers.

        Its configuration may name a kernel of the hub: that is code of others, and is refused.
        """
        config = self.load(AutoConfig)
        kernel = str(getattr(config, "_attn_implementation", None))
        if "/" in kernel:
            raise UnsupportedModelError(f"{self.name} asks for the attention {kernel!r}, code that is not run.")
        model, info = self.load(loader, **options, **TELL_ALL)
        check_loaded(model, info, self.name)
        return model

    def _check(self) -> None:
        """Refuse sizes that the files do not have, before anything is built."""
        place = Path(self.place)
        if not self.options and place.is_dir():
            check_folder(place)
        elif not self.options:
            check_hub(self.place)
        elif util.find_spec("gguf") is not None:
            path = place / self.options["gguf_file"]
            try:
                reader = import_module("gguf").GGUFReader(str(path))
            except Exception as error:  # damaged files raise whatever their bytes lead to
                raise UnsupportedModelError(
                    f"{path} cannot be read as a GGUF file ({type(error).__name__}: {error})."
                ) from error
            check_gguf(reader, str(path))


class Pretrained:
    """A Llama-style language model of `transformers`: shape at once, weights and tokenizer when they are asked for.

    Args:
        model: folder, id on the hub, or a GGUF file.

    Raises `UnsupportedModelError` where its layers cannot be taken over, or nothing that `transformers` reads is there.
    """

    def __init__(self, model: str | Path) -> None:
        self.address = Address.of(model)
        self._gguf = GGUFReading()
        self.config = cast(PreTrainedConfig, self._load(AutoConfig))
        self.values: dict[str, Any] = self.config.to_dict()
        self.shape = LlamaShape.of(self.values)

    @cached_property
    def model(self) -> Any:
        """The model itself, in the type of its weights; `WeightsError` where not all of them are there, and numbers."""
        return self._load(AutoModelForCausalLM, dtype="auto")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Its tokenizer."""
        return cast(PreTrainedTokenizerFast, self._load(AutoTokenizer))

    def rope_frequencies(self) -> tuple[float, ...] | None:
        """Angle of each pair of a head from one position to the next, where it is not the plain one of `rope_theta`."""
        kind = self.shape.rope.get("rope_type", "default")
        if kind == "default":
            return None
        frequencies, _ = ROPE_INIT_FUNCTIONS[kind](self.config, torch.device("cpu"))
        return tuple(frequencies.tolist())

    def _load(self, loader: Any, **options: Any) -> Any:
        with self._gguf.shared():
            try:
                load = self.address.load_model if loader is AutoModelForCausalLM else self.address.load
                return load(loader, **options)
            except UnsupportedModelError as error:
                raise UnsupportedModelError(
                    f"{error} Supported are folders, hub ids and GGUF files of the model types "
                    f"{', '.join(MODEL_TYPES)}."
                ) from error


def layer_weights(weights: Mapping[str, Tensor], number: int, shape: LlamaShape) -> dict[str, Tensor]:
    """Return the weights of a `TransformerLayer` that computes what layer `number` of the model does."""
    prefix = f"model.layers.{number}."
    source = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    result = {
        "attention_norm.weight": source["input_layernorm.weight"],
        "feed_forward_norm.weight": source["post_attention_layernorm.weight"],
        "feed_forward.in_proj.weight": torch.cat((source["mlp.up_proj.weight"], source["mlp.gate_proj.weight"])),
        "feed_forward.out_proj.weight": source["mlp.down_proj.weight"],
        "attention.out_proj.weight": source["self_attn.o_proj.weight"],
        "attention.v_proj.weight": source["self_attn.v_proj.weight"],
        "attention.q_proj.weight": neighbouring_pairs(source["self_attn.q_proj.weight"], shape.head_dim),
        "attention.k_proj.weight": neighbouring_pairs(source["self_attn.k_proj.weight"], shape.head_dim),
    }
    if shape.qkv_bias:
        result["attention.v_proj.bias"] = source["self_attn.v_proj.bias"]
        result["attention.q_proj.bias"] = neighbouring_pairs(source["self_attn.q_proj.bias"], shape.head_dim)
        result["attention.k_proj.bias"] = neighbouring_pairs(source["self_attn.k_proj.bias"], shape.head_dim)
    if shape.out_bias:
        result["attention.out_proj.bias"] = source["self_attn.o_proj.bias"]
    if shape.qk_norm:
        result["attention.q_norm.weight"] = neighbouring_pairs(source["self_attn.q_norm.weight"], shape.head_dim)
        result["attention.k_norm.weight"] = neighbouring_pairs(source["self_attn.k_norm.weight"], shape.head_dim)
    return result


def neighbouring_pairs(values: Tensor, head_dim: int) -> Tensor:
    """Bring numbers i and i + d / 2 of each head beside each other: of weights (H * d, D), or others (H * d,)."""
    return values.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)
