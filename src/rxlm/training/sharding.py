"""Sharded data parallelism (FSDP2): each process keeps a part of every weight, its gradient and its optimizer state.

Weights are put together for the time of their use. A unit is what is put together at once: a layer where all processes
compute the same layers in the same order (`StageModule.by_layer`), else the whole stage, since a process that computes
a layer once more than the others would wait for them for ever.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from rxlm.nn.layer import TransformerLayer
from rxlm.training import distributed
from rxlm.training.module import StageModule

T = TypeVar("T")


def shard(
    module: StageModule, device: torch.device, *, precision: torch.dtype = torch.float32, replicas: int = 1
) -> None:
    """Divide the weights of a stage among the processes, in place; each moves its part to its device.

    The parameters are others afterwards: look them up again. What is computed with them outside of `forward` goes
    through `StageModule.with_weights`.

    Args:
        module: the stage, with whole weights, the same in all processes.
        device: of this process.
        precision: of weights that are put together; parts, and sums of gradients, are in float32.
        replicas: so many groups of processes, one after the other, have all parts each ("hybrid sharding"): weights are
            put together within a group, and only sums of gradients go from group to group.

    Raises `ConfigError` where this process is not one of a group.
    """
    distributed.require_group("fsdp")
    mixed = {} if precision == torch.float32 else {"param_dtype": precision, "reduce_dtype": torch.float32}
    policy = MixedPrecisionPolicy(cast_forward_inputs=False, **mixed)
    count = distributed.world_size()
    shape, names = ((count,), ("shard",)) if replicas == 1 else ((replicas, count // replicas), ("replicate", "shard"))
    options: dict[str, Any] = {"mesh": init_device_mesh(device.type, shape, mesh_dim_names=names), "mp_policy": policy}
    units = _divided(module, by_layer=module.by_layer, **options)
    for decoder in module.frozen_decoders():
        _divided(decoder, by_layer=module.by_layer, **options)
        for name in ("hidden_states", "states_of_row"):
            register_fsdp_forward_method(decoder, name)  # from then on what its layers do not have stays whole
    module.to(device)  # buffers
    for unit in units:
        unit.set_gradient_divide_factor(1.0)  # gradients are summed: losses are shares of the whole step
        unit.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(module, "with_weights")
    module.with_weights = partial(_with_weights, module.with_weights, units)


def _divided(module: nn.Module, *, by_layer: bool, **options: Any) -> list[FSDPModule]:
    """Divide a module's weights, and return its units; the last one is what the layers do not have."""
    layers = [each for each in module.modules() if isinstance(each, TransformerLayer)] if by_layer else []
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(module, reshard_after_forward=False, **options)
    return [each for each in (*layers, module) if isinstance(each, FSDPModule)]


def _with_weights(of_root: Callable[[Callable[[], T]], T], units: Sequence[FSDPModule], function: Callable[[], T]) -> T:
    """Call a function while all units are whole; how often each process computes a layer in it is its own affair."""

    def call() -> T:
        for unit in units:
            unit.unshard()
        return function()

    layers = units[:-1]
    for layer in layers:
        layer.set_reshard_after_forward(False, recurse=False)
    try:
        return of_root(call)
    finally:
        for layer in layers:
            layer.set_reshard_after_forward(True, recurse=False)
        for unit in units:
            unit.reshard()


def is_sharded(module: nn.Module) -> bool:
    """Tell whether `shard` has divided a stage."""
    return isinstance(module, FSDPModule)


def sum_over_parts(values: Tensor, of: Tensor) -> None:
    """Add up in place what each process has found for its part of a tensor `of`; nothing where that is whole."""
    if isinstance(of, DTensor):
        distributed.sum_tensor(values)
        values /= distributed.world_size() // of.device_mesh.size(-1)  # several have the same part


def divided_like(values: Tensor, part: Tensor) -> Tensor:
    """Return this process's part of a tensor that all of them have whole, divided as another one is."""
    if not isinstance(part, DTensor) or isinstance(values, DTensor) or values.shape != part.shape:
        return values
    return distribute_tensor(values.to(part.device), part.device_mesh, part.placements, src_data_rank=None)


def whole(part: Tensor) -> Tensor:
    """Put a tensor that is divided among the processes together, with a message of all; others stay as they are."""
    return part.full_tensor() if isinstance(part, DTensor) else part


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """Put the weights of a sharded stage together on the CPU, one after the other; for the first process alone."""
    weights = {}
    for name, tensor in module.state_dict().items():
        found = whole(tensor)
        if distributed.rank() == 0:
            weights[name] = found.cpu()
    return weights


def send_gradients(module: nn.Module, *, now: bool) -> None:
    """Say whether the next backward pass sums gradients over processes, or keeps its own for one that follows."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(now)
        module.set_reshard_after_backward(now)
        module.set_is_last_backward(now)


def reach_alike(module: nn.Module, loss: Tensor, reached: set[Tensor], *, now: bool) -> Tensor:
    """Return a loss whose backward pass gives gradients to the same weights of a sharded stage in all processes.

    What another process's rows reach and these do not, for example a memory that no turn here is answered from, gets
    zeros: gradients would be summed with those of other weights else. Of layers that are divided each for itself all
    processes reach all weights.

    Args:
        loss: of a microbatch, after `forward`. reached: the weights that those of this step before it have reached.
        now: as in `send_gradients`.
    """
    if not is_sharded(module):
        return loss
    reached |= _leaves(loss)
    if not now:
        return loss
    whole = [each for each in module.parameters() if each.requires_grad and not isinstance(each, DTensor)]
    counts = torch.tensor([float(each in reached) for each in whole], device=loss.device)
    distributed.sum_tensor(counts)
    missing = [each for each, count in zip(whole, counts.tolist(), strict=True) if count and each not in reached]
    return sum((0.0 * each.sum() for each in missing), start=loss)


def _leaves(loss: Tensor) -> set[Tensor]:
    """Return what the backward pass from a loss gives gradients to."""
    nodes, seen, found = [loss.grad_fn], set[Any](), set[Tensor]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable)
        nodes += [before for before, _ in node.next_functions]
    return found


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor: all of it, where it is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
