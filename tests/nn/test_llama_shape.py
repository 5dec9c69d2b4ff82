"""A configuration of `transformers`: every field that changes logits is used or refused by name."""

from typing import Any

import pytest
from transformers import LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from rxlm.nn.llama_shape import LlamaShape
from rxlm.nn.pretrained import Address, UnsupportedModelError

SMALL = {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4}


def shape(config: PreTrainedConfig) -> LlamaShape:
    return LlamaShape.of(config.to_dict(), type(config)().to_dict(), "m")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LlamaConfig(**SMALL, mlp_bias=True), "m: a llama model with mlp_bias=True is not supported; False is"),
        (LlamaConfig(**SMALL, pretraining_tp=2), "pretraining_tp=2 is not supported; 1 is"),
        (Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=16), "layer_types=|sliding_window=16"),
        (Qwen3Config(**SMALL, layer_types=["sliding_attention", *["full_attention"] * 3]), "'sliding_attention'"),
        (
            LlamaConfig(**SMALL, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "rotary embedding of the type 'dynamic' is not supported; default, linear, llama3, yarn are",
        ),
        (
            LlamaConfig(**SMALL, rope_parameters={"rope_type": "default", "rope_theta": 1e4,
                                                  "partial_rotary_factor": 0.5}),
            r"partial_rotary_factor=0\.5; 1 is",
        ),
    ],
)  # fmt: skip
def test_what_a_layer_cannot_express_is_refused_by_name(config: PreTrainedConfig, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        shape(config)


@pytest.mark.parametrize("kind", ["gemma", "phi", "mixtral", "qwen2_moe", None])
def test_models_of_other_types_are_refused_by_name(kind: str | None) -> None:
    with pytest.raises(UnsupportedModelError, match=f"type {kind!r} is not supported; llama, mistral, qwen2, qwen3"):
        LlamaShape.of({"model_type": kind}, {})


@pytest.mark.parametrize("config", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("fields", [{}, {"initializer_range": 0.5, "use_cache": False}, {"a_field_of_somebody": True}])
def test_what_changes_no_logits_may_be_anything(config: Any, fields: dict[str, Any]) -> None:
    assert shape(config(**SMALL, **fields)).num_layers == 4


def test_fields_of_another_type_are_refused() -> None:
    values = LlamaConfig(**SMALL).to_dict()
    with pytest.raises(UnsupportedModelError, match="attention_bias=1 is not supported: true or false is"):
        LlamaShape.of({**values, "attention_bias": 1}, LlamaConfig().to_dict())


@pytest.mark.parametrize("theta", [[1.0], "big", float("nan")])
def test_numbers_of_the_rotary_embedding_are_numbers(theta: Any) -> None:
    values = LlamaConfig().to_dict()
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    with pytest.raises(UnsupportedModelError, match=r"rope_theta=.*; a number is expected"):
        LlamaShape.of(values, LlamaConfig().to_dict())


def test_a_gguf_file_may_be_written_in_capitals(tmp_path: Any) -> None:
    (tmp_path / "Model.GGUF").write_bytes(b"")
    assert Address.of(tmp_path / "Model.GGUF").options == {"gguf_file": "Model.GGUF"}
