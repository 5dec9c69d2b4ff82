"""Retention training with adapters (LoRA): little learns, runs resume, and in the end the model is an ordinary one."""

import sys
from pathlib import Path

import pytest
import torch

from retention_models import SIZE, facts, gated, generator, language_model, learns, trainer
from rxlm.config import ConfigError
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY
from rxlm.training.retention.adapters import add_adapters
from rxlm.training.retention.config import RetentionConfig

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


def test_the_language_model_shares_what_does_not_learn(folder: Path) -> None:
    model = gated(folder)
    own = dict(model.decoder.named_parameters())
    teacher = learns(model, lora_rank=RANK).language_model.decoder
    for name, parameter in teacher.named_parameters():
        assert (parameter is not own[name]) == ("retention_gate" in name), name
    teacher = learns(gated(folder)).language_model.decoder
    assert not any(each.requires_grad for each in teacher.parameters())


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
    with pytest.raises(ImportError, match=r"lora_rank=4 needs PEFT: pip install 'reactive-lm\[lora\]'"):
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
