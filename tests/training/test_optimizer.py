"""Which learning rate each parameter has."""

import pytest

from rxlm.training.optimizer import parameter_group
from training_runs import model


@pytest.mark.parametrize(("write", "gates"), [("attention", "write_gate."), ("copy", "copy_attention.keep_gate")])
def test_what_decides_between_keeping_and_writing_is_a_gate(write: str, gates: str) -> None:
    names = [name for name, _ in model(write=write).named_parameters()]
    of_memory = [f"model.{name}" for name in names if name.startswith("memory_attention.")]
    assert {name for name in of_memory if parameter_group(name) == "gates"} == {
        name for name in of_memory if gates in name
    }
    assert {parameter_group(name) for name in of_memory} == {"gates", "memory"}
