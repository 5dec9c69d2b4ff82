"""The memory that a training will take, reckoned from shapes: what layers keep is what autograd keeps of them."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retention_models import facts, gated, generator, language_model, learns
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.recipes import RECIPES, tiny
from rxlm.recipes.plan import plans
from rxlm.training.memory_plan import kept_by_layer, memory_plan
from rxlm.training.retention.module import Retention
from training_runs import batches, model, stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("models") / "llama")


def kept(module: torch.nn.Module, prepared: object) -> int:
    """Return the bytes that autograd keeps of a step, without the weights."""
    own = {each.untyped_storage().data_ptr() for each in module.parameters()}
    found: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        module(prepared, module.counts(prepared))
    return sum(each.untyped_storage().nbytes() for place, each in found.items() if place not in own)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_layers_keep_is_what_autograd_keeps(
    checkpointing: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stage whose attention has a bias that learns; computing layers again keeps next to nothing.

    With dialogues padded; as one row, which a CPU takes, they need less.
    """
    monkeypatch.setattr(Retention, "_real", lambda *_: None)
    module = learns(gated(folder), wording_share=1.0)
    prepared = module.prepare(facts(module.model, num_turns=12), generator())
    rows, tokens = prepared.ids.shape
    layers = list(module.model.decoder.layers)
    expected = sum(kept_by_layer(layer, rows, tokens) for layer in layers)
    for layer in layers:
        layer.recomputes = checkpointing
    found = kept(module, prepared)
    if checkpointing:
        assert found < 0.2 * expected
    else:
        assert found == pytest.approx(expected, rel=0.15)


def test_gradients_are_the_same_where_layers_are_computed_again(folder: Path) -> None:
    """Of experts and slots, too, whose losses of balance are collected on the way."""
    for module, drawn in (
        (learns(gated(folder).double()), None),
        (stage("memory_aware", model().double()), next(batches("memory_aware"))),
    ):
        batch = module.prepare(facts(module.model) if drawn is None else drawn, generator())
        found = []
        for again in (False, True):
            for part in module.modules():
                if hasattr(part, "recomputes"):
                    part.recomputes = again
            module.zero_grad()
            module(batch, module.counts(batch)).total.backward()
            found.append({name: each.grad for name, each in module.named_parameters() if each.grad is not None})
        assert found[0].keys() == found[1].keys()
        assert found[0]
        for name, gradient in found[0].items():
            torch.testing.assert_close(gradient, found[1][name], msg=name)


def test_what_each_device_has_of_weights_gradients_and_moments(folder: Path) -> None:
    module = learns(gated(folder))
    weights = sum(each.numel() for each in module.parameters())
    learnt = sum(each.numel() for each in module.parameters() if each.requires_grad)
    assert 0 < learnt < weights
    alone = memory_plan(module, 2, 100)
    assert (alone.weights, alone.gradients, alone.optimizer) == (4 * (weights + learnt), 4 * learnt, 8 * learnt)
    assert alone.gathered == 0  # and the language model is a copy of what learns
    four = memory_plan(module, 2, 100, devices=4, parallel="fsdp")
    assert (four.weights, four.gradients, four.optimizer) == (2 * weights, learnt, 2 * learnt)
    assert four.gathered > 0
    assert four.activations == alone.activations
    nodes = memory_plan(module, 2, 100, devices=4, parallel="hsdp", devices_of_node=2)
    assert nodes.gradients == 2 * four.gradients
    assert memory_plan(module, 2, 100, devices=4).gathered == 4 * learnt  # the message of all gradients


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if name not in ("upcycled", "upcycled-gpu", "mini", "alpha")]
)
def test_every_recipe_has_a_plan(name: str) -> None:
    found = list(plans(RECIPES[name](), devices=8, parallel="fsdp"))
    assert found
    assert all(plan.total > 0 for _, plan in found)


def test_the_command_plans_a_model_of_which_the_configuration_is_there_alone(tmp_path: Path, capsys) -> None:
    (tmp_path / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
        "tie_word_embeddings": False, "hidden_act": "silu",
    }))  # fmt: skip
    command = ["train", "upcycled", "--model", str(tmp_path), "--dry-run", "--devices", "8", "--parallel", "fsdp"]
    assert main([*command, "--retention.settings.lora_rank", "16"]) == 0
    printed = capsys.readouterr().out
    assert "Memory on each of 8 device(s)" in printed
    assert "4.0 GB" in printed  # 8 billion weights of four bytes, in eight parts
    assert main(["train", "tiny", "--devices", "8"]) == 1
    assert "--devices must be at least 1 and go with --dry-run, got 8" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["mrl", "feedback", "reward", "rlhf", "language"])
def test_the_stages_are_planned_that_the_command_would_train(named: str) -> None:
    planned = [stage.id for stage, _ in plans(tiny(), 1, "ddp")]
    assert planned == [stage.id for stage in tiny().stages if not stage.on_request]
    up_to = [stage.id for stage, _ in plans(tiny(), 1, "ddp", named)]
    assert up_to == ([*planned, named] if named not in planned else ["language"])


def test_hybrid_sharding_is_planned_for_whole_machines() -> None:
    with pytest.raises(ConfigError, match=r"devices must be a multiple of 8 for hsdp.*got 12"):
        list(plans(tiny(), 12, "hsdp"))
    few, many = (next(plans(tiny(), devices, "hsdp"))[1] for devices in (8, 16))
    assert few == many != next(plans(tiny(), 16, "fsdp"))[1]
