"""Checkpoints of a run: whole or not there, whenever the process is killed.

A checkpoint is a folder `step-000500` with `weights.safetensors` (of the train module) and `state.pt` (optimizer,
random number generators, place in the data, what the stage carries). It is written under another name and then renamed,
which is one step of the file system.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS, STATE = "weights.safetensors", "state.pt"
PREFIX, UNFINISHED = "step-", ".unfinished-"


class Checkpoints:
    """The checkpoints of one stage, in one folder.

    Args:
        folder: where they are.
        keep_last: how many of the newest are kept, besides the best.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def save(self, step: int, module: nn.Module, state: Mapping[str, Any], best_step: int | None = None) -> Path:
        """Write the checkpoint of a step; then remove older ones, but for the last few and the best."""
        target = self.path(step)
        draft = self.folder / f"{UNFINISHED}{target.name}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        # Shared weights are stored once, under the first of their names.
        seen: set[int] = set()
        weights = {}
        for name, tensor in module.state_dict().items():
            if tensor.data_ptr() not in seen or not tensor.numel():
                weights[name] = tensor.detach().contiguous()
            seen.add(tensor.data_ptr())
        save_file(weights, draft / WEIGHTS)
        torch.save(dict(state), draft / STATE)
        for name in (WEIGHTS, STATE):
            _flush(draft / name)
        if target.exists():
            shutil.rmtree(target)
        os.replace(draft, target)
        self._remove_old(best_step)
        return target

    def load(self, step: int, module: nn.Module) -> dict[str, Any]:
        """Load the weights of a step into the module and return the state beside them."""
        folder = self.path(step)
        weights = load_file(folder / WEIGHTS)
        missing, unexpected = module.load_state_dict(weights, strict=False)
        pointers = {tensor.data_ptr() for name, tensor in module.state_dict().items() if name in weights}
        lost = [name for name in missing if module.state_dict()[name].data_ptr() not in pointers]
        if lost or unexpected:
            raise ValueError(f"The checkpoint {folder} does not fit the model: missing {lost}, unknown {unexpected}.")
        return torch.load(folder / STATE, map_location="cpu", weights_only=True)

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


def _flush(path: Path) -> None:
    """Make sure that a file has reached the disk before it is given its name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
