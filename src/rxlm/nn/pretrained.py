"""Weights of Llama-style language models (Llama, Mistral, Qwen2, Qwen3) as those of layers here.

Two things differ: here a feed-forward's two input projections are one, and rotary embedding turns neighbouring numbers
of a head, where theirs turns number i together with number i + d / 2.

Shapes: D model dimension, H heads, d head dimension.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rxlm.extras import require_packages
from rxlm.nn.gguf_reading import GGUFReading
from rxlm.nn.llama_shape import MODEL_TYPES, LlamaShape
from rxlm.nn.model_files import UnsupportedModelError, check_folder, check_gguf, check_hub
from rxlm.nn.weights import TELL_ALL, check_loaded


class Address(NamedTuple):
    """Where `transformers` finds a model: what its loaders take first, and by name."""

    place: str
    options: dict[str, Any]

    @classmethod
    def of(cls, model: str | Path) -> "Address":
        """Take a folder, an id on the hub, or a GGUF file, which `transformers` reads with the package gguf."""
        path = Path(os.path.expanduser(model))
        if path.suffix.lower() == ".gguf":
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
        else:
            require_packages(f"The GGUF file {self.name}", "gguf", "gguf", "accelerate")
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
        self.shape = LlamaShape.of(self.values, type(self.config)().to_dict(), self.address.name)

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
        return self._stretched and self._stretched[0]

    def rope_scale(self) -> float:
        """By what a rotation multiplies queries and keys: 1 but for YaRN (Peng et al., 2023)."""
        return self._stretched[1] if self._stretched else 1.0

    @cached_property
    def _stretched(self) -> tuple[tuple[float, ...], float] | None:
        kind = self.shape.rope.get("rope_type", "default")
        if kind == "default":
            return None
        frequencies, scale = ROPE_INIT_FUNCTIONS[kind](self.config, torch.device("cpu"))
        return tuple(frequencies.tolist()), float(scale)

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


def layer_weights(
    weights: Mapping[str, Tensor], number: int, shape: LlamaShape, scale: float = 1.0
) -> dict[str, Tensor]:
    """Return the weights of a `TransformerLayer` that computes what layer `number` of the model does.

    `scale`: see `Pretrained.rope_scale`; what makes queries and keys takes it up. `UnsupportedModelError` for weights
    that such a layer has no place for.
    """
    prefix = f"model.layers.{number}."
    source = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    result = {
        "attention_norm.weight": source.pop("input_layernorm.weight"),
        "feed_forward_norm.weight": source.pop("post_attention_layernorm.weight"),
        "feed_forward.in_proj.weight": torch.cat(
            (source.pop("mlp.up_proj.weight"), source.pop("mlp.gate_proj.weight"))
        ),
        "feed_forward.out_proj.weight": source.pop("mlp.down_proj.weight"),
        "attention.out_proj.weight": source.pop("self_attn.o_proj.weight"),
        "attention.v_proj.weight": source.pop("self_attn.v_proj.weight"),
        "attention.q_proj.weight": neighbouring_pairs(source.pop("self_attn.q_proj.weight"), shape.head_dim),
        "attention.k_proj.weight": neighbouring_pairs(source.pop("self_attn.k_proj.weight"), shape.head_dim),
    }
    if shape.qkv_bias:
        result["attention.v_proj.bias"] = source.pop("self_attn.v_proj.bias")
        result["attention.q_proj.bias"] = neighbouring_pairs(source.pop("self_attn.q_proj.bias"), shape.head_dim)
        result["attention.k_proj.bias"] = neighbouring_pairs(source.pop("self_attn.k_proj.bias"), shape.head_dim)
    if shape.out_bias:
        result["attention.out_proj.bias"] = source.pop("self_attn.o_proj.bias")
    if shape.qk_norm:
        result["attention.q_norm.weight"] = neighbouring_pairs(source.pop("self_attn.q_norm.weight"), shape.head_dim)
        result["attention.k_norm.weight"] = neighbouring_pairs(source.pop("self_attn.k_norm.weight"), shape.head_dim)
    if source:
        raise UnsupportedModelError(f"Layer {number} has weights that are not supported: {', '.join(sorted(source))}.")
    return {name: value * scale if name in _scaled(shape) else value for name, value in result.items()}


def _scaled(shape: LlamaShape) -> tuple[str, ...]:
    """Return what makes queries and keys of the size they have: norms, where there are any."""
    if shape.qk_norm:
        return "attention.q_norm.weight", "attention.k_norm.weight"
    return tuple(f"attention.{part}_proj.{kind}" for part in "qk" for kind in ("weight", "bias"))


def neighbouring_pairs(values: Tensor, head_dim: int) -> Tensor:
    """Bring numbers i and i + d / 2 of each head beside each other: of weights (H * d, D), or others (H * d,)."""
    return values.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)
