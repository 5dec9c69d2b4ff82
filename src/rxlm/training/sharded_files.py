"""What sharded training keeps in a checkpoint: each process writes its part, and any number of processes reads it.

By PyTorch's distributed checkpoints (DCP), whose `.metadata` says which file has which part of which tensor. What reads
it may be sharded in another way, or not at all.
"""

import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner

from rxlm.file_errors import writing

INDEX = ".metadata"
WEIGHT, OPTIMIZER, SEPARATOR = "weight", "optimizer", "/"


class _Writer(dcp.FileSystemWriter):
    """Lets what the system refuses stay the OSError that it is, on its way to the other processes, too."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Any:
        with writing(Path(self.path), Path(self.path).name, of_folder=True):
            return super().write_data(plan, planner)


class PartsWriter:
    """Writes checkpoints in parts while training goes on: what is written is copied first.

    It is made by all processes of the group at once, and has a group of its own for what the writers tell each other.
    """

    def __init__(self) -> None:
        group = dist.new_group(backend="gloo")
        assert isinstance(group, dist.ProcessGroup)
        self._group = group
        self._written: Future[Any] | None = None

    def start(self, module: nn.Module, optimizer: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
        """Begin to write the weights of a module, and what the optimizer knows of each parameter by its name."""
        state = {SEPARATOR.join((WEIGHT, name)): tensor for name, tensor in _stored(module)}
        for name, values in optimizer.items():
            state |= {SEPARATOR.join((OPTIMIZER, name, key)): value for key, value in values.items()}
        written = dcp.async_save(state, storage_writer=_Writer(folder), process_group=self._group)
        assert isinstance(written, Future)
        self._written = written

    @property
    def is_done(self) -> bool:
        """Whether this process has written its part, or could not."""
        return self._written is not None and self._written.done()

    def wait(self) -> None:
        """Wait until all have written their parts; the error of the first that could not, an OSError mostly."""
        written, self._written = self._written, None
        if written is None:
            return
        try:
            written.result()
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from error


def holds_parts(folder: Path) -> bool:
    """Tell whether the weights of a checkpoint were written in parts."""
    return (folder / INDEX).is_file()


def load_parts(module: nn.Module, folder: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Read weights and the optimizer's state by the parameter's name, each divided as the module's own is."""
    reader = dcp.FileSystemReader(folder)
    own, state = module.state_dict(), {}
    for key, saved in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(saved, TensorStorageMetadata)
        like = own.get(key.split(SEPARATOR)[1])
        if like is not None and like.shape == saved.size:
            state[key] = torch.empty_like(like)
        else:
            state[key] = torch.empty(saved.size, dtype=saved.properties.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # a process may be alone
        dcp.load(state, storage_reader=reader)
    weights: dict[str, Tensor] = {}
    optimizer: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        kind, name, *part = key.split(SEPARATOR)
        if kind == WEIGHT:
            weights[name] = value
        else:
            optimizer.setdefault(name, {})[part[0]] = value
    return weights, optimizer


def _stored(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Return what the weights are, each once, and buffers that are saved."""
    second = {name for name, _ in module.named_parameters(remove_duplicate=False)} - dict(
        module.named_parameters()
    ).keys()
    return ((name, tensor) for name, tensor in module.state_dict().items() if name not in second)
