"""Layers as one ONNX graph: one layer of each kind is exported, and stands there for all of its kind.

The exporter takes time with the square of a graph's length: minutes for 30 layers, seconds for one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rxlm.export.step import Step

IR_VERSION = 10
"""Of the file, as ONNX Runtime has read it since 1.20."""
LARGEST_CONSTANT = 8
"""Numbers of a constant that is no weight."""


def chained(steps: Sequence[Step], opset: int) -> Any:
    """Return the graph of all layers, an `onnx_ir.Model`.

    Its inputs are `x` and those that layers share, and those of a layer by `NAME.LAYER`; its outputs likewise,
    but that the only `hidden` of steps that say so is the last one's.
    """
    import onnx_ir as ir

    exported: dict[tuple[object, ...], Any] = {}
    whole = ir.Graph([], [], nodes=[], opset_imports={"": opset, "com.microsoft": 1}, name="layers")
    shared: dict[str, Any] = {}
    hidden: Any = None
    for number, step in enumerate(steps):
        state = step.state_dict()
        kind = (step.outputs, *((name, each.shape, _baked(each)) for name, each in state.items()))
        if kind not in exported:
            exported[kind] = _exported(step, opset)
        hidden = _append(ir, whole, exported[kind].graph.clone(), number, step, state, shared, hidden)
    if hidden is not None and steps[-1].last_alone:
        hidden.name = "hidden"
        whole.outputs.append(hidden)
    return ir.Model(whole, ir_version=IR_VERSION, producer_name="rxlm")


def _baked(weight: Tensor) -> tuple[float, ...] | None:
    """Return the values of a weight so small that an optimiser may compute with it beforehand."""
    return tuple(weight.flatten().tolist()) if weight.numel() <= LARGEST_CONSTANT else None


def _exported(step: Step, opset: int) -> Any:
    step.eval()
    arguments, sizes = step.example()
    from onnxscript import optimizer

    program = torch.onnx.export(
        step, arguments, dynamo=True, dynamic_shapes=sizes, input_names=list(step.inputs),
        output_names=list(step.outputs), opset_version=opset, optimize=False, verbose=False,
    )  # fmt: skip
    assert program is not None
    # Nothing is computed beforehand of weights: this layer's would come to stand in the others of its kind.
    model = optimizer.optimize(program.model, input_size_limit=LARGEST_CONSTANT, output_size_limit=LARGEST_CONSTANT)
    constants = [each for name, each in model.graph.initializers.items() if name not in step.state_dict()]
    small = all(each.const_value is None or each.const_value.size <= LARGEST_CONSTANT for each in constants)
    assert small, "a weight of one layer must not come to stand in another"
    return model


def _append(
    ir: Any,
    whole: Any,
    part: Any,
    number: int,
    step: Step,
    state: dict[str, Tensor],
    shared: dict[str, Any],
    hidden: Any,
) -> Any:
    """Let a layer's nodes follow those of the layer before, whose `hidden` it takes; return the layer's own."""
    for name, value in list(part.initializers.items()):
        part.initializers.pop(name)
        if name in state:
            value.const_value = ir.tensor(state[name].detach().numpy(), name=f"{name}.{number}")
        value.name = f"{name}.{number}"
        whole.register_initializer(value)
    nodes, made = list(part), {value.name: value for value in part.outputs}
    for node in nodes:
        node.name = f"{node.name}.{number}"
        node.metadata_props.clear()  # where in Python it came from
        for value in node.outputs:
            value.name = f"{value.name}.{number}"
    for value in list(part.inputs):
        first = hidden if value.name == "x" else shared.get(value.name)
        if first is not None:
            ir.convenience.replace_all_uses_with(value, first)
            continue
        if value.name in step.shared:
            shared[value.name] = value
        elif value.name != "x":
            value.name = f"{value.name}.{number}"
        part.inputs.remove(value)
        whole.inputs.append(value)
    part.outputs.clear()
    part.remove(nodes)
    whole.extend(nodes)
    carried = made.get("hidden") if step.last_alone else None
    whole.outputs.extend(each for each in made.values() if each is not carried)
    return made.get("hidden")
