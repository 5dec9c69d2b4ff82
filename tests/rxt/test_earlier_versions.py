"""Names of format 1 become those of today, and back; see `tests/earlier_versions` for files it has written."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from helpers import ARCHITECTURES, shared_model
from rxlm.rxt.earlier_versions import first_weight_name, weight_name
from rxlm.rxt.fingerprint import weights_digest
from rxlm.rxt.hub import CheckpointError
from rxlm.rxt.models import RxTAlpha, RxTDecoder, RxTEncoder, RxTMemoryAttention

NAMES = {
    "decoder.layers.3.memory_attention.q_proj.weight": "decoder.layers.3.memory_reader.q_proj.weight",
    "encoder.layers.0.memory_attention.gate_proj.weight": "encoder.layers.0.memory_reader.gate_proj.weight",
    "layers.11.memory_attention.out_proj.bias": "layers.11.memory_reader.out_proj.bias",
    "model.decoder.layers.1.memory_attention.k_norm.weight": "model.decoder.layers.1.memory_reader.k_norm.weight",
    "memory_attention.layers.0.write_attention.q_proj.weight": "memory_writer.layers.0.write_attention.q_proj.weight",
    "model.memory_attention.initial": "model.memory_writer.initial",
    "critic.encoder.layers.0.memory_attention.q_proj.weight": "critic.encoder.layers.0.memory_reader.q_proj.weight",
}


@pytest.mark.parametrize(("first", "today"), NAMES.items())
def test_reader_and_writer_get_their_names_wherever_they_stand(first, today):
    assert weight_name(first) == today
    assert first_weight_name(today) == first
    assert weight_name(today) == today


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_has_one_name_in_each_format(architecture):
    model = shared_model(architecture)
    for module in (model, model.decoder, model.encoder, model.memory_writer, nn.ModuleDict({"model": model})):
        names = list(module.state_dict())
        first = [first_weight_name(name) for name in names]
        assert [weight_name(name) for name in first] == names
        assert len(set(first)) == len(names)
        assert not any("memory_reader" in name or "memory_writer" in name for name in first)


def test_digests_are_those_of_format_1():
    model = shared_model("moe-encoder-reads-memory-linear")
    digest = hashlib.sha256()
    for name, tensor in sorted((first_weight_name(name), tensor) for name, tensor in model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    assert weights_digest(model) == digest.hexdigest()


@pytest.mark.parametrize("part", ["model", "decoder", "encoder", "memory_writer"])
def test_a_folder_of_format_1_loads_as_what_it_was(part, tmp_path):
    model = shared_model("moe-encoder-reads-memory-linear")
    saved = model if part == "model" else getattr(model, part)
    saved.save_pretrained(tmp_path)
    into_format_1(tmp_path)
    kinds = {"model": RxTAlpha, "decoder": RxTDecoder, "encoder": RxTEncoder, "memory_writer": RxTMemoryAttention}
    loaded = kinds[part].from_pretrained(tmp_path)
    assert loaded.config_dict() == saved.config_dict()
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_folder_of_a_later_format_is_refused(tmp_path):
    shared_model("mha-simple-content").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 3}))
    with pytest.raises(CheckpointError, match=r"is in format 3; this version of rxlm reads formats up to 2\."):
        RxTAlpha.from_pretrained(tmp_path)


def into_format_1(folder: Path) -> None:
    """Rewrite a saved module as format 1 had it."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    weights = load_file(folder / "model.safetensors")
    save_file({first_weight_name(name): tensor for name, tensor in weights.items()}, folder / "model.safetensors")
