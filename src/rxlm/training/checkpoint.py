"""Checkpoints of a run: whole or not there, whenever a process is killed.

A checkpoint is a folder `step-000500` with three kinds of files:

    weights.safetensors   the weights of the train module
    state.pt              what all processes share: step, best step, optimizer state by parameter name
    rank-00000.pt, ...    what each process has of its own: random numbers, place in the data, carried memories

Each process writes its own file to a folder of another name; when all have, the first process renames the folder, which
is one step of the file system.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rxlm.rxt.earlier_versions import translate_weights
from rxlm.training import distributed

WEIGHTS, STATE, OWN = "weights.safetensors", "state.pt", "rank-{:05d}.pt"
PREFIX, UNFINISHED = "step-", ".unfinished-"


class Checkpoints:
    """The checkpoints of one stage, in one folder that all processes see.

    Args:
        folder: where they are.
        keep_last: how many of the newest are kept, besides the best.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def save(
        self,
        step: int,
        module: nn.Module,
        state: Mapping[str, Any],
        own: Mapping[str, Any],
        best_step: int | None = None,
    ) -> Path:
        """Write the checkpoint of a step, in all processes at once; then remove older ones, save the last and the best.

        Args:
            step: number of the step.
            module: whose weights are saved.
            state: what all processes share. own: what this process has of its own.
            best_step: whose checkpoint stays, however old.
        """
        target, rank = self.path(step), distributed.rank()
        draft = self.folder / f"{UNFINISHED}{target.name}"
        if rank == 0:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        distributed.wait()
        if not draft.is_dir():
            raise OSError(f"Process {rank} does not see {draft}: all processes need a folder that they share.")
        _save(own, draft / OWN.format(rank))
        if rank == 0:
            save_file(_weights(module), draft / WEIGHTS)
            _flush(draft / WEIGHTS)
            _save(state, draft / STATE)
        distributed.wait()
        if rank == 0:
            if target.exists():
                shutil.rmtree(target)
            os.replace(draft, target)
            self._remove_old(best_step)
        return target

    def load(self, step: int, module: nn.Module) -> dict[str, Any]:
        """Load the weights of a step into the module and return the state that processes share."""
        folder = self.path(step)
        weights = translate_weights(load_file(folder / WEIGHTS))
        missing, unexpected = module.load_state_dict(weights, strict=False)
        pointers = {tensor.data_ptr() for name, tensor in module.state_dict().items() if name in weights}
        lost = [name for name in missing if module.state_dict()[name].data_ptr() not in pointers]
        if lost or unexpected:
            raise ValueError(f"The checkpoint {folder} does not fit the model: missing {lost}, unknown {unexpected}.")
        return _load(folder / STATE)

    def num_processes(self, step: int) -> int:
        """Return how many processes wrote the checkpoint of a step; earlier versions kept what the first one had."""
        return max(1, len(list(self.path(step).glob("rank-*.pt"))))

    def load_own(self, step: int, rank: int) -> dict[str, Any]:
        """Return what a process had of its own; in a checkpoint of an earlier version it is in the shared file."""
        path = self.path(step) / OWN.format(rank)
        return _load(path if path.exists() else self.path(step) / STATE)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        return sorted(int(path.name.removeprefix(PREFIX)) for path in self.folder.glob(f"{PREFIX}*"))

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"{PREFIX}{step:06d}"

    def _remove_old(self, best_step: int | None) -> None:
        for step in self.steps()[: -self.keep_last]:
            if step != best_step:
                shutil.rmtree(self.path(step))


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights by name; shared ones once, under the first of their names."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in module.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            weights[name] = tensor.detach().contiguous()
        seen.add(tensor.data_ptr())
    return weights


def _save(state: Mapping[str, Any], path: Path) -> None:
    torch.save(dict(state), path)
    _flush(path)


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _flush(path: Path) -> None:
    """Make sure that a file has reached the disk before it is given its name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
