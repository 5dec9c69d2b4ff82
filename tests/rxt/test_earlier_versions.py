"""Names of format 1 become those of today, and back; see `tests/earlier_versions` for files it has written."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from helpers import ARCHITECTURES, shared_model
from rxlm.config import ConfigError
from rxlm.folders import MARKER
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.feed_forward import FeedForwardConfig
from rxlm.nn.moe import ExpertsConfig
from rxlm.rxt.config import DecoderConfig, EncoderConfig, RxTComponentConfig
from rxlm.rxt.earlier_versions import first_weight_name, translate_configurations, weight_name
from rxlm.rxt.fingerprint import differences, weights_digest
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
    for module in (model, *model.children(), nn.ModuleDict({"model": model})):
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


FLAT = {
    "num_layers": 2, "dim": 16, "num_heads": 4, "num_query_heads": 2, "memory_query_heads": 1, "qk_norm": True,
    "memory_attention_gate": "sigmoid", "attention_bias": True, "ff_dim": 24, "ff_gated": False, "num_experts": 2,
    "expert_bias": "local", "stateless_layers": ["dense", "moe"], "dense_ff_dim": 8, "reads_memory": None,
}  # fmt: skip


def test_flat_fields_of_a_decoder_are_those_of_its_parts():
    decoder = DecoderConfig.of(FLAT)
    attention = AttentionConfig(num_heads=4, num_query_heads=2, out_bias=True)
    experts = ExpertsConfig(num_experts=2, ff_dim=24, gated=False, bias="local")
    assert decoder.attention == attention.replace(qk_norm=True)
    # Key/value heads of the reader that are not given are self-attention's.
    assert decoder.memory_reader == attention.replace(num_query_heads=1, num_kv_heads=2, gate="sigmoid")
    assert decoder.feed_forward == experts
    assert decoder.stateless_layers == (FeedForwardConfig(ff_dim=8, gated=False), experts)
    assert DecoderConfig.of({**FLAT, "reads_memory": False}).memory_reader is None
    assert DecoderConfig.of(decoder.to_dict()) == decoder == DecoderConfig.of(RxTComponentConfig(**FLAT))


def test_flat_fields_of_an_encoder_leave_out_what_it_lacks():
    fields = {**FLAT, "stateless_layers": [], "tie_head": True, "num_slots": 7, "final_norm": None}
    encoder = EncoderConfig.of(fields)
    assert encoder.memory_reader is None
    assert EncoderConfig.of({**fields, "reads_memory": True}).memory_reader == DecoderConfig.of(fields).memory_reader
    assert EncoderConfig.of(encoder.to_dict()) == encoder
    with pytest.raises(ConfigError, match="it has no stateless ones"):
        EncoderConfig.of(FLAT)


def test_flat_fields_change_every_part_that_they_are_of():
    decoder = DecoderConfig().replace(num_heads=8, ff_dim=64, memory_kv_heads=2)
    assert (decoder.attention.num_heads, decoder.memory_heads, decoder.feed_forward.ff_dim) == (8, (8, 2), 64)
    with pytest.raises(ConfigError, match="EncoderConfig takes no memory_kv_heads=2: memory_reader is None"):
        EncoderConfig().replace(memory_kv_heads=2)
    with pytest.raises(ConfigError, match="their widths must be equal, got 32 and 64"):
        DecoderConfig(memory_reader=AttentionConfig(num_heads=8))
    memory = MemoryAttentionConfig(num_heads=8, consolidation_kv_heads=2)
    assert (memory.attention.heads, memory.consolidation_heads) == ((8, 8), (8, 2))


def test_a_fingerprint_of_format_1_is_that_of_the_same_model_and_of_no_other():
    def of_format_1(**changes: int) -> dict[str, Any]:
        decoder = {**FLAT, "vocab_size": 40, **changes}
        return {"architecture": "RxTAlpha", "decoder_config": decoder, "weights": "a", "tokenizer": "b"}

    present = {**translate_configurations(of_format_1()), "format_version": 2}
    assert differences(of_format_1(), present) == []
    assert differences(of_format_1(vocab_size=41), present) == ["decoder_config.vocab_size is 41 there and 40 here"]
    assert differences({**of_format_1(), "weights": "c"}, present) == ["the weights differ"]
    (told,) = differences({**present, "format_version": 3}, present)
    assert told == "it was saved in format 3, and this version of rxlm reads formats up to 2"


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder_config": {"memory_layers": [1, 3], "depth": 4}},
        {"memory_attention_config": {"write": "copy"}},
        {"encoder_config": None},
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_model_that_an_earlier_version_upcycled_is_refused_with_what_to_do(changes, version, tmp_path):
    shared_model("mha-simple-content").save_pretrained(tmp_path)
    (tmp_path / MARKER).unlink()
    path = tmp_path / "config.json"
    values = json.loads(path.read_text()) | {"format_version": version}
    saved = {
        name: value and {**value, "memory_layers": None, "depth": None, "write": "attention"}
        for name, value in values.items()
        if name.endswith("r_config") or name == "memory_attention_config"
    }
    saved |= {"tokenizer_config": values["tokenizer_config"]}
    path.write_text(json.dumps(values | saved))
    RxTAlpha.from_pretrained(tmp_path)  # nothing was upcycled

    for name, value in changes.items():
        saved[name] = value and {**saved[name], **value}
    path.write_text(json.dumps(values | saved))
    with pytest.raises(ConfigError, match=r"of a model that rxlm 0\.1\.0 upcycled: .* `rxlm upcycle MODEL OUT` makes"):
        RxTAlpha.from_pretrained(tmp_path)
    (told,) = differences(values | saved, values)
    assert told.startswith("it is of a model that rxlm 0.1.0 upcycled")


def into_format_1(folder: Path) -> None:
    """Rewrite a saved module as format 1 had it."""
    (folder / MARKER).unlink()  # it had no sums
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    weights = load_file(folder / "model.safetensors")
    save_file({first_weight_name(name): tensor for name, tensor in weights.items()}, folder / "model.safetensors")
