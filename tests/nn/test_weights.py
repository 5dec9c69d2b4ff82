"""No model is made of weights that are missing, unknown, of another shape, or no numbers: the error names them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from pretrained_models import save_language_model
from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM, DecoderLMModel
from rxlm.llm.conversion import from_gqa
from rxlm.mrq_bench.loading import ModelOptions, load_respondent
from rxlm.nn.pretrained import Pretrained
from rxlm.nn.weights import WeightsError, not_finite
from rxlm.upcycling.loading import open_model
from rxlm.upcycling.model import upcycle

NAME = "model.layers.3.mlp.down_proj.weight"
DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (lambda weights: weights.pop(NAME), f"{NAME} is missing"),
    "unknown": (lambda weights: weights.update(extra=torch.ones(2)), "extra is not part of the model"),
    "NaN": (lambda weights: weights[NAME][0].fill_(float("nan")), f"{NAME} holds NaN"),
    "infinite": (lambda weights: weights[NAME][0].fill_(-float("inf")), f"{NAME} holds NaN"),
    "another shape": (lambda weights: weights.update({NAME: torch.ones(2, 3)}), r"down_proj\.weight"),
}
LOADS: dict[str, Callable[[Path], Any]] = {
    "upcycle": upcycle,
    "chat": open_model,
    "llm from-gqa": lambda folder: from_gqa(folder, kv_heads=1),
    "bench": lambda folder: load_respondent(str(folder), ModelOptions(adapter="transformers")),
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_language_model("llama", folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_language_model_with_damaged_weights_is_refused_by_all_that_load_it(
    damage: str, llama: Path, tmp_path: Path
) -> None:
    change, message = DAMAGE[damage]
    shutil.copytree(llama, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    for load in LOADS.values():
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_a_gguf_file_without_tensors_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "empty.gguf", "llama")
    for name, value in (
        ("context_length", 64), ("embedding_length", 16), ("block_count", 1), ("feed_forward_length", 24),
        ("head_count", 2), ("vocab_size", 40),
    ):  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"empty\.gguf.*tensors of 0 layers"):
        _ = Pretrained(tmp_path / "empty.gguf").model


def test_our_language_models_are_whole_or_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = DecoderLMForCausalLM(DecoderLMConfig(vocab_size=40, **sizes))
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "model.safetensors", "checksums.json"}
    DecoderLMModel.from_pretrained(tmp_path)  # which has no place for the head
    again, info = DecoderLMForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)

    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "q_proj" in name)
    save_file({name: weight for name, weight in weights.items() if name != lost}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not belong together"):
        DecoderLMForCausalLM.from_pretrained(tmp_path)
    (tmp_path / "checksums.json").unlink()
    with pytest.raises(WeightsError, match=f"{lost} is missing"):
        DecoderLMForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_values_that_are_no_numbers_are_found_in_every_type(dtype: torch.dtype) -> None:
    values = torch.ones(5, 7).to(dtype)
    whole = {"a": values, "none": torch.empty(0), "ids": torch.tensor([1])}
    assert not_finite(whole) == []
    for bad in (float("nan"),) if dtype == torch.float8_e4m3fn else (float("nan"), float("inf"), -float("inf")):
        broken = torch.ones(5, 7)
        broken[4, 3] = bad
        assert not_finite(whole | {"b": broken.to(dtype)}) == ["b holds NaN or infinity"]
