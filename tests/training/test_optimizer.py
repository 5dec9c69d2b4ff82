"""Which learning rate each parameter has."""

import ast
from pathlib import Path

import pytest
import torch

import rxlm.training
from rxlm.memory.slots.norm import MixedNorm
from rxlm.nn.moe import Experts
from rxlm.training.config import Algorithm, OptimizerConfig
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.optimizer import build_optimizers, load_optimizer_state, optimizer_state, parameter_groups
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
    config = OptimizerConfig(learning_rate=1e-3, embedding_scale=0.5, memory_scale=2.0)
    (optimizer,) = build_optimizers(module, config)
    rates = {id(parameter): group["base_rate"] for group in optimizer.param_groups for parameter in group["params"]}
    for component in (module.model.decoder, module.model.needed_encoder()):
        assert {rates[id(parameter)] for parameter in component.layers.parameters()} == {1e-3}
        assert rates[id(component.embedding.weight)] == 5e-4
    assert rates[id(module.model.memory_writer.layers[0].write_norm.weight)] == 2e-3


def learnt(module: MemoryAware, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a module after a step along gradients drawn at random."""
    optimizers = build_optimizers(module, config)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    return optimizers


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_the_optimizers_state_finds_its_parameters_by_name(algorithm: Algorithm) -> None:
    """Whatever order the parameters of the model have that goes on."""
    module, config = MemoryAware(model(), MemoryAwareConfig()), OptimizerConfig(algorithm=algorithm)
    saved = optimizer_state(module, learnt(module, config))
    assert saved.keys() == dict(module.named_parameters()).keys()

    other = MemoryAware(model(), MemoryAwareConfig())
    other.model._modules["decoder"] = other.model._modules.pop("decoder")  # now it is the last one
    assert [name for name, _ in other.named_parameters()] != [name for name, _ in module.named_parameters()]
    resumed = build_optimizers(other, config.replace(learning_rate=0.5))
    load_optimizer_state(other, resumed, saved)
    found = {parameter: state for optimizer in resumed for parameter, state in optimizer.state.items()}
    parameters = dict(other.named_parameters(remove_duplicate=False))
    for name, values in saved.items():
        assert all(torch.equal(value, found[parameters[name]][field]) for field, value in values.items()), name
    assert {group["base_rate"] for optimizer in resumed for group in optimizer.param_groups} == {0.5}


def test_the_optimizers_state_of_an_earlier_version_finds_its_parameters_by_order() -> None:
    module = MemoryAware(model(), MemoryAwareConfig())
    (optimizer,), (resumed,) = learnt(module, OptimizerConfig()), build_optimizers(module, OptimizerConfig())
    load_optimizer_state(module, [resumed], optimizer.state_dict())
    for parameter in module.parameters():
        assert torch.equal(resumed.state[parameter]["exp_avg"], optimizer.state[parameter]["exp_avg"])
    with pytest.raises(ValueError, match="knows parameters that the model has not: \\['lost'\\]"):
        load_optimizer_state(module, [resumed], {"lost": {}})


def test_muon_updates_the_matrices_of_body_and_memory() -> None:
    module = MemoryAware(model(), MemoryAwareConfig())
    config = OptimizerConfig(algorithm="muon", learning_rate=1e-3, memory_scale=2.0, weight_decay=0.05, momentum=0.8)
    adamw, muon = build_optimizers(module, config)
    groups = parameter_groups(module)
    of_muon = {each for group in muon.param_groups for each in group["params"]}
    of_adamw = {each for group in adamw.param_groups for each in group["params"]}
    assert of_muon | of_adamw == set(groups)
    assert of_muon.isdisjoint(of_adamw)
    assert all(each.dim() >= 2 and groups[each] in ("body", "memory") for each in of_muon)
    of_layers = {weight for name, weight in module.named_parameters() if name.endswith("proj.weight")}
    assert of_layers
    assert of_layers <= of_muon
    assert {group["name"]: group["base_rate"] for group in muon.param_groups} == {"body": 1e-3, "memory": 2e-3}
    assert {(group["weight_decay"], group["momentum"]) for group in muon.param_groups} == {(0.05, 0.8)}


def test_stacks_of_biases_and_columns_are_no_matrices() -> None:
    module = torch.nn.ModuleDict(
        {
            "experts": Experts(3, 8, 16, gated=True, activation="silu", bias=True),
            "norm": MixedNorm("mixed-positional", 8, num_slots=4, per_dim_scale=False),
        }
    )
    adamw, muon = build_optimizers(module, OptimizerConfig(algorithm="muon", weight_decay=0.1))
    names = {parameter: name for name, parameter in module.named_parameters()}
    assert {names[each] for group in muon.param_groups for each in group["params"]} == {
        "experts.w_in",
        "experts.w_out",
    }
    assert {group["weight_decay"] for group in adamw.param_groups} == {0.0}


@pytest.mark.parametrize(
    ("algorithm", "form", "message"),
    [
        ("adamw", "by name", "learnt by another algorithm"),
        ("muon", "by name", "learnt by another algorithm"),
        ("adamw", "by order", "learnt by another algorithm"),
        ("muon", "by order", "is that of other parameters"),  # the order of AdamW's part alone
    ],
)
def test_weights_that_another_algorithm_learnt_are_refused(algorithm: Algorithm, form: str, message: str) -> None:
    module, config = MemoryAware(model(), MemoryAwareConfig()), OptimizerConfig(algorithm=algorithm)
    other = config.replace(algorithm="muon" if algorithm == "adamw" else "adamw")
    optimizers = learnt(module, config)
    saved = optimizers[0].state_dict() if form == "by order" else optimizer_state(module, optimizers)
    with pytest.raises(ValueError, match=message):
        load_optimizer_state(module, build_optimizers(module, other), saved)


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
    memory, (optimizer,) = network.current.get(), build_optimizers(network, OptimizerConfig())
    assert network.current._present.value.kept is not None
    before = network.current._present.value.kept
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    assert before.is_outdated(network)
    assert network.current.get() is memory
    assert network.current._present.value.kept is not before
