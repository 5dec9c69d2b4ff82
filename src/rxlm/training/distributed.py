"""Where a run computes, and data parallelism under torchrun: every process computes its rows, and gradients are summed.

Losses are already shares of the whole step (see `training/module.py`), so that the sum over processes is the gradient
of one process with all the rows.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rxlm.config import require
from rxlm.nn.device import device_of
from rxlm.training.heartbeat import Heartbeat

T = TypeVar("T")
Parallel = Literal["ddp", "fsdp", "hsdp"]
"""How processes share the work: each has all weights, or a part of them; with "hsdp" the processes of one machine have
all parts, and every machine has the same. See `training/sharding.py`.
"""

_heartbeats: list[Heartbeat] = []
"""That of this process, where it is one of several."""


def compute_device(name: str = "auto") -> torch.device:
    """Return the device that this process computes on.

    Args:
        name: auto (a CUDA GPU where there is one, else the CPU), cuda (under torchrun each process's own GPU), or a
            device of PyTorch's: cpu, cuda:1, mps.

    Raises ValueError where there is no such device, or not one for each of a machine's processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = device_of(name)
    if device.type != "cuda":
        return device
    gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    number = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if number >= gpus or processes > gpus or (processes > 1 and device.index is not None):
        raise ValueError(
            f"Device {name!r} with {processes} processes on {gpus} GPU(s): name a GPU that is there, or take "
            f"torchrun --nproc-per-node {gpus} with device cuda, a GPU for each process; or device cpu."
        )
    return torch.device("cuda", number)


def start(device: torch.device | None = None) -> None:
    """Join the group that torchrun made, if there is one; each process computes on `device`, the CPU if not given.

    Several processes watch each other from then on (see `training/heartbeat.py`).
    """
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        store, own_rank, count = next(dist.rendezvous("env://"))
        # After a restart torchrun's store may still have the addresses of processes that are gone.
        own = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group("nccl" if on_gpu else "gloo", store=own, rank=own_rank, world_size=count)
        if world_size() > 1:
            _heartbeats.append(Heartbeat())


def leave() -> None:
    """Leave the group, once this process has nothing more to send: its threads end before the interpreter does."""
    while _heartbeats:
        _heartbeats.pop().end()
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number, 0 without torchrun."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes, 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def require_group(parallel: Parallel) -> None:
    """Raise `ConfigError` where weights are to be divided among processes and torchrun has not started this one."""
    require(
        parallel == "ddp" or dist.is_initialized(),
        f"parallel must be ddp where torchrun has not started the process, got {parallel!r}: several processes divide "
        "weights among them.",
    )


def num_nodes() -> int:
    """Return the number of machines; `ConfigError` in all processes where machines have different numbers of them."""
    of_node, count = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size()))), world_size()
    found = sum_over_processes({"sizes": of_node, "squares": of_node**2})
    require(
        count * found["squares"] == found["sizes"] ** 2 and count % of_node == 0,
        "parallel must be ddp or fsdp where machines have different numbers of processes, got 'hsdp': this machine "
        f"has {of_node} of {count}.",
    )
    return count // of_node


def wait() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        with naming_lost(sends_only=True):
            dist.barrier()


def sum_over_processes(values: Mapping[str, float]) -> dict[str, float]:
    """Add figures of the same names up over all processes."""
    return sum_of_figures(list(values.items()))


def sum_of_figures(figures: Sequence[tuple[str, float | Tensor]]) -> dict[str, float]:
    """Add figures of the same name up, within this process and over all: one read from the device, and one message."""
    if not figures:
        return {}
    device = next((value.device for _, value in figures if isinstance(value, Tensor)), torch.device("cpu"))
    if world_size() > 1:
        device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    found = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for _, value in figures])
    if world_size() > 1:
        with naming_lost(sends_only=True):
            dist.all_reduce(found)
    totals: dict[str, float] = {}
    for (name, _), value in zip(figures, found.tolist(), strict=True):
        totals[name] = totals.get(name, 0.0) + value
    return totals


def sum_tensor(values: Tensor) -> None:
    """Add a tensor up over all processes, in place."""
    if world_size() > 1:
        with naming_lost(sends_only=True):
            dist.all_reduce(values)


def gathered(values: list[T]) -> list[T]:
    """Return the values of all processes, those of the first process first; they must be picklable."""
    if world_size() == 1:
        return values
    found: list[list[T]] = [[] for _ in range(world_size())]
    with naming_lost(sends_only=True):
        dist.all_gather_object(found, values)
    return [value for part in found for value in part]


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add gradients up over all processes, in one message; a parameter that no process has a gradient of gets none."""
    if world_size() == 1:
        return
    learnt = list(parameters)
    flat = [(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in learnt]
    found = flat[0].new_tensor([each.grad is not None for each in learnt])
    summed = torch.cat([*flat, found])
    sum_tensor(summed)
    *parts, found = summed.split([*(each.numel() for each in learnt), len(learnt)])
    for parameter, part, count in zip(learnt, parts, found.tolist(), strict=True):
        if parameter.grad is not None:
            parameter.grad.copy_(part.view_as(parameter))
        elif count:
            parameter.grad = part.view_as(parameter).clone()


@contextmanager
def naming_lost(*, sends_only: bool = False) -> Iterator[None]:
    """Let the process that is lost be the cause where a message fails, and not the connection to it.

    `sends_only`: whether every RuntimeError is that of a message; else those of `torch.distributed` and gloo are.
    """
    try:
        yield
    except RuntimeError as error:
        if not _heartbeats or not (sends_only or isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise _heartbeats[-1].explain() from error
