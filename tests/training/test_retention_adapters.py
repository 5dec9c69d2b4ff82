"""Retention training with adapters (LoRA): little learns, runs resume, and in the end the model is an ordinary one."""

import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from retention_models import SIZE, facts, gated, generator, language_model, learns, trainer
from rxlm.config import ConfigError
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY
from rxlm.training.retention.adapters import add_adapters
from rxlm.training.retention.config import RetentionConfig
from rxlm.upcycling.adapters import AdaptersError, take_adapters
from rxlm.upcycling.loading import open_model

RANK = 2
LORA = RetentionConfig(sizes=(SIZE, SIZE + 8), lora_rank=RANK, learned_share=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("models") / "llama")


def test_adapters_and_gates_learn_and_nothing_else(folder: Path) -> None:
    model = gated(folder)
    layers, ff = len(model.decoder.layers), model.decoder.config.feed_forward.ff_dim
    dim, heads = model.decoder.config.dim, model.decoder.config.attention_heads
    width = model.decoder.config.width_of_head
    gates = sum(each.numel() for name, each in model.named_parameters() if "retention_gate" in name)
    module = learns(model, lora_rank=RANK, learned_share=0.5)
    learning = {name: each for name, each in module.named_parameters() if each.requires_grad}
    sizes = [dim + heads[0] * width, dim + heads[1] * width, dim + heads[1] * width, heads[0] * width + dim]
    a_layer = RANK * sum([*sizes, dim + 2 * ff, ff + dim])
    assert sum(each.numel() for each in learning.values()) == gates + -(-layers // 2) * a_layer
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in learning if "lora_" in name} == {
        "q_proj", "k_proj", "v_proj", "out_proj", "in_proj"
    }  # fmt: skip

    before = {name: each.clone() for name, each in module.named_parameters()}
    batch = module.prepare(facts(model), generator())
    module(batch, module.counts(batch)).total.backward()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    optimizer.step()
    moved = {name for name, each in module.named_parameters() if not torch.equal(each, before[name])}
    assert moved
    assert all("lora_B" in name or "retention_gate" in name for name in moved)  # lora_A has no gradient yet


def test_the_language_model_is_the_model_without_what_learns(folder: Path) -> None:
    """With adapters nothing is copied, though they have learnt something; and they learn on afterwards."""
    ids = torch.arange(8, 40)[None]
    with torch.no_grad():
        asked = learns(gated(folder)).language_model.states(ids)
    run = learns(gated(folder), lora_rank=RANK)
    assert run.language_model.decoder is run.model.decoder
    learning = [name for name, each in run.named_parameters() if each.requires_grad]
    for name, each in run.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(each)
    assert torch.equal(run.language_model.states(ids), asked)
    assert not torch.equal(run.model.decoder.hidden_states(ids, None), asked)
    assert [name for name, each in run.named_parameters() if each.requires_grad] == learning
    copied = learns(gated(folder)).language_model.decoder
    assert not any(each.requires_grad for each in copied.parameters())


def test_saved_adapters_make_the_merged_model_of_the_one_they_were_trained_beside(folder: Path, tmp_path: Path) -> None:
    """By our reader, and by PEFT's."""
    model, ids = gated(folder), torch.arange(8, 40)[None]
    model.save_pretrained(tmp_path / "start")
    run = trainer(model, LORA, tmp_path / "run", steps=2)
    run.run()
    run.module.save(tmp_path)
    run.module.finish()
    merged = {name: each.clone() for name, each in model.state_dict().items()}

    ours = open_model(tmp_path / "start", adapters=tmp_path / "adapters")
    assert ours.state_dict().keys() == merged.keys()
    for name, each in ours.state_dict().items():
        torch.testing.assert_close(each, merged[name], msg=name)
    theirs = PeftModel.from_pretrained(RxTAlpha.from_pretrained(tmp_path / "start"), str(tmp_path / "adapters"))
    with torch.no_grad():
        found = theirs.base_model.model.decoder.hidden_states(ids, None)
        torch.testing.assert_close(found, ours.decoder.hidden_states(ids, None))
    assert (tmp_path / "adapters" / "adapter_model.safetensors").stat().st_size < 100_000

    untouched = {name: each.clone() for name, each in ours.state_dict().items()}
    weights = load_file(tmp_path / "adapters" / "adapter_model.safetensors")
    for name, wrong in {
        "another model": {key.replace("layers.1", "layers.9"): each for key, each in weights.items()},
        "NaN": {key: each * torch.nan for key, each in weights.items()},
        "half": {key: each for key, each in weights.items() if "lora_A" in key},
    }.items():
        save_file(wrong, tmp_path / "adapters" / "adapter_model.safetensors")
        with pytest.raises(AdaptersError, match="do not fit the model"):
            take_adapters(ours, tmp_path / "adapters")
        assert all(torch.equal(each, untouched[key]) for key, each in ours.state_dict().items()), name
    (tmp_path / "adapters" / "adapter_config.json").write_text("{}")
    with pytest.raises(AdaptersError, match="cannot be read"):
        take_adapters(ours, tmp_path / "adapters")
    with pytest.raises(AdaptersError, match="no folder of adapters"):
        take_adapters(ours, tmp_path / "start")


def test_merged_adapters_give_what_they_gave_before_and_leave_an_ordinary_model(folder: Path, tmp_path: Path) -> None:
    """Read at once, and answered token by token; saved, the model loads like any other."""
    model = gated(folder).double()
    names = list(model.state_dict())
    run = trainer(model, LORA, tmp_path / "run", steps=2)
    run.run()
    assert any("lora_" in name for name in model.state_dict())
    model.eval()
    ids = torch.arange(8, 40)[None]
    with torch.no_grad():
        before = model.decode(ids, model.init_memory(1))
    answers = [list(Conversation(model, sampling=GREEDY).send("Hello there.", max_seq_len=40))]
    untrained = gated(folder).double().decode(ids, model.init_memory(1))
    assert (untrained - before).abs().max() > 1e-3

    run.module.finish()
    assert list(model.state_dict()) == names
    with torch.no_grad():
        torch.testing.assert_close(model.decode(ids, model.init_memory(1)), before)
    answers.append(list(Conversation(model, sampling=GREEDY).send("Hello there.", max_seq_len=40)))
    assert answers[0] == answers[1]
    model.save_pretrained(tmp_path / "model")
    loaded = RxTAlpha.from_pretrained(tmp_path / "model")
    assert all(torch.equal(each, loaded.state_dict()[name]) for name, each in model.state_dict().items())


def test_a_run_that_resumes_equals_the_straight_one(folder: Path, tmp_path: Path) -> None:
    """Law 8; whatever else was drawn, adapters begin alike."""
    straight = trainer(gated(folder), LORA, tmp_path / "straight", steps=4)
    straight.run()
    trainer(gated(folder), LORA, tmp_path / "resumed", steps=2).run()
    torch.manual_seed(99)
    resumed = trainer(gated(folder), LORA, tmp_path / "resumed", steps=4)
    resumed.run()
    weights, others = straight.module.state_dict(), resumed.module.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(each, others[name]) for name, each in weights.items())


def test_adapters_that_cannot_be_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"lora_rank must be 0 where learned_share is 0 and no layer learns, got 4"):
        RetentionConfig(lora_rank=4, learned_share=0.0)
    model = gated(folder)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"lora_rank=4 needs the package peft: pip install 'reactive-lm\[lora\]'"):
        add_adapters(model.decoder.layers, 4, 8)


def test_every_process_draws_the_same_adapters_and_training_draws_what_it_would(folder: Path) -> None:
    found = []
    for seed in (1, 2):
        model = gated(folder)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(add_adapters(model.decoder.layers, 4, 8))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
