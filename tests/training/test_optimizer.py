"""Which learning rate each parameter has."""

import ast
from pathlib import Path

import pytest
import torch

import rxlm.training
from rxlm.training.config import OptimizerConfig
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.optimizer import build_optimizer, load_optimizer_state, optimizer_state, parameter_groups
from training_runs import model

TRAINING = Path(rxlm.training.__path__[0])


def test_what_decides_between_keeping_and_writing_is_a_gate() -> None:
    network = model()
    groups = parameter_groups(network)
    of_memory = {name: groups[parameter] for name, parameter in network.memory_writer.named_parameters()}
    assert {name for name, group in of_memory.items() if group == "gates"} == {
        name for name in of_memory if "write_gate." in name
    }
    assert set(of_memory.values()) == {"gates", "memory"}


def test_embedding_and_memory_have_rates_of_their_own_and_all_layers_the_bodys() -> None:
    module = MemoryAware(model(), MemoryAwareConfig())
    optimizer = build_optimizer(module, OptimizerConfig(learning_rate=1e-3, embedding_scale=0.5, memory_scale=2.0))
    rates = {id(parameter): group["base_rate"] for group in optimizer.param_groups for parameter in group["params"]}
    for component in (module.model.decoder, module.model.needed_encoder()):
        assert {rates[id(parameter)] for parameter in component.layers.parameters()} == {1e-3}
        assert rates[id(component.embedding.weight)] == 5e-4
    assert rates[id(module.model.memory_writer.layers[0].write_norm.weight)] == 2e-3


def test_the_optimizers_state_finds_its_parameters_by_name_and_an_earlier_one_by_order() -> None:
    """Whatever order the parameters of the model have that goes on."""
    network = model()
    module = MemoryAware(network, MemoryAwareConfig())
    optimizer = build_optimizer(module, OptimizerConfig())
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    saved, in_order = optimizer_state(module, optimizer), optimizer.state_dict()

    other = MemoryAware(model(), MemoryAwareConfig())
    other.model._modules["decoder"] = other.model._modules.pop("decoder")  # now it is the last one
    assert [name for name, _ in other.named_parameters()] != [name for name, _ in module.named_parameters()]
    resumed = build_optimizer(other, OptimizerConfig(learning_rate=0.5))
    load_optimizer_state(other, resumed, saved)
    for name, parameter in other.named_parameters(remove_duplicate=False):
        for field, value in saved.get(name, {}).items():
            assert torch.equal(value, resumed.state[parameter][field]), name
    assert {group["base_rate"] for group in resumed.param_groups} == {0.5}

    earlier = build_optimizer(module, OptimizerConfig())
    load_optimizer_state(module, earlier, in_order)
    for parameter in module.parameters():
        assert torch.equal(earlier.state[parameter]["exp_avg"], optimizer.state[parameter]["exp_avg"])
    with pytest.raises(ValueError, match="knows parameters that the model has not: \\['lost'\\]"):
        load_optimizer_state(module, earlier, {"lost": {}})


@pytest.mark.parametrize("file", sorted(TRAINING.rglob("*.py")), ids=lambda file: str(file.relative_to(TRAINING)))
def test_weights_of_a_model_are_reached_through_forward_alone(file: Path) -> None:
    """What shards weights over processes gathers them there. Settings and rewards have a `weight` of their own."""
    touched = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("weight", "bias") and isinstance(node.ctx, ast.Load)
    ]
    own = {"self.head.weight", "self.head.bias", "embedding.weight"}  # a head's, where it is made
    settings = {"self.settings.weight", "self.weight", "reward.weight"}
    assert [name for name in touched if name not in own | settings] == []


def test_a_step_makes_readings_of_the_current_memory_outdated() -> None:
    network = model()
    memory, optimizer = network.current.get(), build_optimizer(network, OptimizerConfig())
    assert network.current._present.value.kept is not None
    before = network.current._present.value.kept
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    assert before.is_outdated(network)
    assert network.current.get() is memory
    assert network.current._present.value.kept is not before
