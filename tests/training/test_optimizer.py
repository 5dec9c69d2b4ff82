"""Which learning rate each parameter has."""

import pytest

from rxlm.training.config import OptimizerConfig
from rxlm.training.keeping import memory_readers
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.optimizer import build_optimizer, parameter_group
from training_runs import model


@pytest.mark.parametrize(("write", "gates"), [("attention", "write_gate."), ("copy", "copy_attention.keep_gate")])
def test_what_decides_between_keeping_and_writing_is_a_gate(write: str, gates: str) -> None:
    names = [name for name, _ in model(write=write).named_parameters()]
    of_memory = [f"model.{name}" for name in names if name.startswith("memory_writer.")]
    assert {name for name in of_memory if parameter_group(name) == "gates"} == {
        name for name in of_memory if gates in name
    }
    assert {parameter_group(name) for name in of_memory} == {"gates", "memory"}


def test_the_decoders_own_weights_have_a_rate_of_their_own_and_what_reads_the_memory_has_the_bodys() -> None:
    module = MemoryAware(model(), MemoryAwareConfig())
    optimizer = build_optimizer(module, OptimizerConfig(learning_rate=1e-3, decoder_scale=0.25, memory_scale=2.0))
    rates = {id(parameter): group["base_rate"] for group in optimizer.param_groups for parameter in group["params"]}
    decoder = module.model.decoder
    readers = {id(parameter) for part in memory_readers(decoder) for parameter in part.parameters()}
    own = {id(parameter) for parameter in decoder.layers.parameters()} - readers
    assert readers
    assert {rates[parameter] for parameter in readers} == {1e-3}
    assert {rates[parameter] for parameter in own} == {2.5e-4}
    assert rates[id(decoder.embedding.weight)] == 1e-3
    assert rates[id(module.model.encoder.layers[0].attention.q_proj.weight)] == 1e-3
    assert rates[id(module.model.memory_writer.layers[0].write_norm.weight)] == 2e-3
