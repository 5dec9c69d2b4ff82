"""Models and their components are saved and loaded whole, or not at all."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import ARCHITECTURES, WITH_SLOTS, build, configuration, some_ids, some_memory
from rxlm.rxt.hub import CheckpointError
from rxlm.rxt.models import RxTAlpha, RxTBeta, RxTDecoder, RxTEncoder, RxTMemoryAttention
from text_models import tiny_text_model, tiny_tokenizer

QUERY = some_ids(1, 4, seed=1)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_a_saved_model_comes_back_the_same(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path / "new" / "folder")
    again = RxTAlpha.from_pretrained(tmp_path / "new" / "folder")
    assert again.config_dict() == model.config_dict()
    assert not again.training
    mine, theirs = model.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    if model.memory_writer.reads_encoded:
        assert again.encoder.embedding is again.decoder.embedding
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_a_shared_weight_is_stored_once(tmp_path):
    for name, tied in (("gqa-window-self-elementwise", True), ("mha-simple-content", False)):
        build(name).save_pretrained(tmp_path)
        stored = load_file(tmp_path / "model.safetensors")
        assert "encoder.embedding.weight" not in stored
        assert ("decoder.head.weight" in stored) is not tied
        assert not any("inverse_frequencies" in key for key in stored)


def test_a_saved_beta_comes_back_as_a_beta_with_its_title(tmp_path):
    beta = tiny_text_model(RxTBeta, system_prompt_title="[SYSTEM]")
    beta.save_pretrained(tmp_path)
    for kind in (RxTAlpha, RxTBeta):
        again = kind.from_pretrained(tmp_path)
        assert type(again) is RxTBeta
        assert again.system_prompt_title == "[SYSTEM]"
        assert again.config_dict() == beta.config_dict()


def test_a_saved_tokenizer_is_attached_again_unless_another_is_given(tmp_path):
    model = tiny_text_model()
    model.save_pretrained(tmp_path)
    again = RxTAlpha.from_pretrained(tmp_path)
    assert again.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    assert torch.equal(again.tokenize_query("Rex")["input_ids"], model.tokenize_query("Rex")["input_ids"])
    mine = tiny_tokenizer()
    assert RxTAlpha.from_pretrained(tmp_path, tokenizer=mine).tokenizer is mine


def test_options_for_the_hub_do_no_harm_on_a_folder_with_a_tokenizer(tmp_path):
    """A program may pass them always, and get a folder."""
    tiny_text_model().save_pretrained(tmp_path)
    options = {"revision": "main", "local_files_only": True, "token": None, "force_download": False, "cache_dir": None}
    assert RxTAlpha.from_pretrained(tmp_path, **options).tokenizer is not None
    assert RxTAlpha.from_pretrained(str(tmp_path), **options).tokenizer is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, None])
def test_a_model_is_loaded_in_the_type_asked_for(dtype, tmp_path):
    build("gqa-window-self-elementwise").save_pretrained(tmp_path)
    model = RxTAlpha.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype or torch.float64}
    assert model.decoder.rope.inverse_frequencies.dtype == torch.float32
    assert model.decoder.head.weight is model.decoder.embedding.weight
    assert list(model.interact(QUERY, seed=0))[-1] == -2


@pytest.mark.parametrize("name", WITH_SLOTS)
@torch.no_grad()
def test_components_are_saved_and_loaded_on_their_own(name, tmp_path):
    model = build(name)
    memory, ids = some_memory(model, [0]), some_ids(1, 5)
    for part, kind in (("decoder", RxTDecoder), ("encoder", RxTEncoder), ("memory_writer", RxTMemoryAttention)):
        component = getattr(model, part)
        component.save_pretrained(tmp_path / part)
        again = kind.from_pretrained(tmp_path / part)
        assert again.config == component.config
        if part == "memory_writer":
            encoded = model.encode(ids, memory=memory)
            assert torch.equal(again(memory.slots, encoded), component(memory.slots, encoded))
        elif part == "encoder":
            assert torch.equal(again(ids, memory=memory), component(ids, memory=memory))
        else:
            assert torch.equal(again(ids, memory), component(ids, memory))


def test_components_are_built_from_plain_dicts_too():
    arguments = configuration(ARCHITECTURES["mha-simple-content"])
    for kind, config in ((RxTDecoder, "decoder_config"), (RxTEncoder, "encoder_config")):
        made = kind(arguments[config].to_dict())
        assert kind(made.config.to_dict()).config == kind(made.config).config == made.config
    memory = arguments["memory_attention_config"]
    assert RxTMemoryAttention(memory.to_dict()).config == memory


def test_a_component_is_not_taken_for_another(tmp_path):
    build().decoder.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds a RxTDecoder, not a RxTEncoder"):
        RxTEncoder.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds a RxTDecoder, not a RxTAlpha"):
        RxTAlpha.from_pretrained(tmp_path)


@pytest.fixture
def folder(tmp_path):
    build().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kept", [0, 7, 200, -1], ids=["nothing", "a few bytes", "half a header", "all but one byte"])
def test_truncated_weights_are_called_damaged(folder, kept):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        RxTAlpha.from_pretrained(folder)


def test_damaged_weights_are_called_damaged(folder):
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[:64] = bytes(range(64))
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        RxTAlpha.from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"format_version": 1', "is not JSON"),
        ("[]", "holds a list"),
        ("{}", "no format_version"),
        ('{"format_version": 99, "architecture": "RxTAlpha"}', "format 99"),
        ('{"format_version": 1, "architecture": "RxTAlpha"}', "damaged or incomplete"),
        ('{"format_version": 1, "architecture": "GPT", "decoder_config": {}}', "holds a GPT"),
    ],
)
def test_a_damaged_configuration_is_explained(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        RxTAlpha.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("memory_attention_config"), "memory_attention_config"),
        (lambda config: config.update(something_else=1), "something_else"),
        (lambda config: config.update(decoder_config=[1]), "DecoderConfig is made of a dict"),
        (lambda config: config["decoder_config"].update(dim="wide"), "dim"),
        (lambda config: config["decoder_config"].update(num_layer=2), "Did you mean 'num_layers'"),
        (lambda config: config["encoder_config"].update(num_layers=3), "num_layers"),
        (lambda config: config["tokenizer_config"].update(eos_token_id=None), "eos_token_id"),
        (lambda config: config["decoder_config"].update(ff_dim=21), r"feed_forward\.in_proj\.weight has shape"),
    ],
)
def test_a_configuration_that_does_not_fit_is_explained(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        RxTAlpha.from_pretrained(folder)


def test_weights_that_do_not_fit_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights["decoder.lead.weight"] = weights.pop("decoder.head.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"decoder\.head\.weight is missing; decoder\.lead\.weight is not part"):
        RxTAlpha.from_pretrained(folder)


def test_a_file_that_is_missing_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        RxTAlpha.from_pretrained(folder)


@pytest.mark.parametrize("fails", ["rxt.hub.save_file", "files.os.replace", "rxt.hub.json.dumps"])
def test_an_interrupted_save_leaves_the_old_checkpoint_whole(folder, fails, monkeypatch):
    old = {path.name: path.read_bytes() for path in folder.iterdir()}

    def failing(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"rxlm.{fails}", failing)
        with pytest.raises(KeyboardInterrupt):
            build(seed=1).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    RxTAlpha.from_pretrained(folder)


def test_a_configuration_that_is_written_half_leaves_the_old_one_whole(folder, monkeypatch):
    old, write_text = {path.name: path.read_bytes() for path in folder.iterdir()}, Path.write_text

    def failing(path, text, **options):
        write_text(path, text[: len(text) // 2], **options)
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(OSError, match="no space"):
        build(seed=1).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old


def test_a_model_can_be_saved_over_the_checkpoint_that_it_came_from(folder):
    model = RxTAlpha.from_pretrained(folder)
    with torch.no_grad():
        model.decoder.head.weight.add_(1)
    model.save_pretrained(folder)
    again = RxTAlpha.from_pretrained(folder)
    assert torch.equal(again.decoder.head.weight, model.decoder.head.weight)


def test_a_save_that_was_killed_after_its_files_were_whole_is_finished_by_who_loads_it(folder, monkeypatch):
    """Weights of one model beside the configuration, or the tokenizer, of another are never loaded."""
    with monkeypatch.context() as patch:
        patch.setattr("rxlm.folders._move", lambda *arguments: kill())
        patch.setattr("rxlm.files.remove", lambda path: None)
        with pytest.raises(KeyboardInterrupt):
            tiny_text_model(seed=1).save_pretrained(folder)
    assert not (folder / "config.json").exists()  # who knows nothing of this finds no model, and no mixture
    assert RxTAlpha.from_pretrained(folder).tokenizer is not None


def kill():
    raise KeyboardInterrupt


def test_a_model_without_a_tokenizer_takes_none_from_the_model_that_it_is_saved_over(tmp_path):
    tiny_text_model().save_pretrained(tmp_path)
    build().save_pretrained(tmp_path)
    assert RxTAlpha.from_pretrained(tmp_path).tokenizer is None


def test_weights_of_another_save_are_refused_though_they_fit(folder, tmp_path):
    build(seed=1).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"do not belong together: .*model\.safetensors is not the file"):
        RxTAlpha.from_pretrained(folder)
    (folder / "checksums.json").unlink()
    RxTAlpha.from_pretrained(folder)  # somebody takes the responsibility


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(value, folder):
    weights = load_file(folder / "model.safetensors")
    weights["decoder.head.weight"][-1, -1] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"damaged: decoder\.head\.weight holds NaN or infinity\."):
        RxTAlpha.from_pretrained(folder)


def test_saved_files_can_be_read_by_whom_the_umask_lets_read(tmp_path):
    former = os.umask(0o022)
    try:
        tiny_text_model().save_pretrained(tmp_path)
    finally:
        os.umask(former)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
