"""Checkpoints of a run: whole or not there, whenever a process is killed.

A checkpoint is a folder `step-000500` with these files:

    weights.safetensors   the weights of the train module; of sharded training `.metadata`, `__0_0.distcp`, ... in
                          place, with the optimizer's state (see `training/sharded_files.py`)
    state.pt              what all processes share: step, best step, optimizer state by parameter name
    rank-00000.pt, ...    what each process has of its own: random numbers, place in the data, carried memories
    checksums.json        names, sizes and sums of them all

Each process writes its own file to a folder of another name; when all have, the first process adds the sums and renames
the folder, which is one step of the file system. A run goes on from the newest checkpoint that is whole.
"""

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rxlm.file_errors import writing
from rxlm.files import remove, sync
from rxlm.folders import MARKER, damage, write_marker
from rxlm.nn.weights import listed, misfits, not_finite
from rxlm.rxt.earlier_versions import translate_weights
from rxlm.training import distributed
from rxlm.training.sharded_files import PartsWriter, holds_parts, load_parts
from rxlm.training.sharding import divided_like, is_sharded, local

WEIGHTS, STATE, OWN = "weights.safetensors", "state.pt", "rank-{:05d}.pt"
PREFIX, UNFINISHED = "step-", ".unfinished-"
NAME = re.compile(rf"{PREFIX}(\d{{6,}})")
T = TypeVar("T")
LOGGER = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one stage, in one folder that all processes see.

    Args:
        folder: where they are.
        keep_last: how many of the newest are kept, besides the best.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder = folder
        self.keep_last = keep_last
        self._parts: PartsWriter | None = None
        self._begun: tuple[int, int | None] | None = None

    def save(
        self,
        step: int,
        module: nn.Module,
        state: Mapping[str, Any],
        own: Mapping[str, Any],
        best_step: int | None = None,
    ) -> Path:
        """Write the checkpoint of a step, in all processes at once; then remove older ones, save the last and the best.

        The weights of a sharded module are written while training goes on, until `commit`.

        Args:
            step: number of the step.
            module: whose weights are saved.
            state: what all processes share, `optimizer` among it. own: what this process has of its own.
            best_step: whose checkpoint stays, however old.
        """
        self.commit()
        target, rank = self.path(step), distributed.rank()
        draft, state = self._draft(step), dict(state)
        with writing(target, draft.name, of_folder=True):
            if rank == 0:
                for left in self.folder.glob(f"{UNFINISHED}*"):  # by a killed run
                    remove(left)
                draft.mkdir(parents=True)
            distributed.wait()
            if not draft.is_dir():
                raise OSError(f"Process {rank} does not see {draft}: all processes need a folder that they share.")
            _save(own, draft / OWN.format(rank))
            optimizer = state.pop("optimizer", {}) if is_sharded(module) else None
            if rank == 0:
                _save(state, draft / STATE)
            if optimizer is not None:
                self._parts = self._parts or PartsWriter()
                self._parts.start(module, optimizer, draft)
            elif rank == 0:
                save_file(_weights(module), draft / WEIGHTS)
            if optimizer is None:
                distributed.wait()
                self._commit(step, best_step)
            else:
                self._begun = step, best_step
        return target

    @property
    def is_written(self) -> bool:
        """Whether this process has written what it was to write of a checkpoint that has not got its name yet."""
        return self._parts is not None and self._parts.is_done

    def commit(self) -> None:
        """Wait until the checkpoint that is being written is there, in all processes at once, if there is one.

        OSError, which names the checkpoint, where the system refused a file.
        """
        if self._begun is None or self._parts is None:
            return
        (step, best_step), self._begun = self._begun, None  # also where it fails: its parts never get the name
        with writing(self.path(step), self._draft(step).name, of_folder=True):
            self._parts.wait()
            distributed.wait()
            self._commit(step, best_step)

    def _commit(self, step: int, best_step: int | None) -> None:
        """Give the checkpoint its name, now that all processes have written what is theirs."""
        if distributed.rank() == 0:
            target, draft = self.path(step), self._draft(step)
            write_marker(draft)
            remove(target)  # which is damaged: there is no other reason to make the step again
            os.replace(draft, target)
            sync(self.folder)
            self._remove_others(step, best_step)

    def _draft(self, step: int) -> Path:
        return self.folder / f"{UNFINISHED}{self.path(step).name}"

    def newest_whole(self) -> int | None:
        """Return the newest step whose checkpoint is whole, in all processes the same; None where there is none.

        A line in the log says which newer ones are not. ValueError, which says what is wrong with the newest, where
        there are checkpoints and none is whole.
        """
        found, problem = -1, ""
        if distributed.rank() == 0:
            for step in reversed(self.steps()):
                damaged = self._damage(step)
                if not damaged:
                    found = step
                    break
                problem = problem or damaged
                LOGGER.warning("The checkpoint of step %d is not whole and is not used: %s.", step, damaged)
        found = int(distributed.sum_over_processes({"step": found if distributed.rank() == 0 else 0})["step"])
        if found < 0 and self.steps():
            raise ValueError(
                f"No checkpoint in {self.folder} is whole. {problem}. Remove the folder to train the stage again."
            )
        return found if found >= 0 else None

    def load(self, step: int, module: nn.Module) -> dict[str, Any]:
        """Load the weights of a step into the module and return the state that processes share.

        Raises ValueError, and changes nothing, where a file is damaged or does not fit the module.
        """
        folder = self.path(step)
        state = self._load_state(step, STATE)
        if holds_parts(folder):
            weights, state["optimizer"] = _read(folder, lambda path: load_parts(module, path))
        else:
            weights = translate_weights(_read(folder / WEIGHTS, load_file))
        own = module.state_dict()
        pointers = {local(tensor).data_ptr() for name, tensor in own.items() if name in weights}
        shared = [name for name, tensor in own.items() if name not in weights and local(tensor).data_ptr() in pointers]
        problems = misfits({name: tensor for name, tensor in own.items() if name not in shared}, weights)
        if problems:
            raise ValueError(f"The checkpoint {folder} does not fit the model: {listed(problems)}.")
        damaged = not_finite(
            {**{name: local(each) for name, each in weights.items()}, **_tensors(state.get("optimizer"), "optimizer")}
        )
        if damaged:
            raise ValueError(f"The checkpoint {folder} is damaged: {listed(damaged)}.")
        module.load_state_dict(
            {name: divided_like(weight, own[name]) for name, weight in weights.items()}, strict=False
        )
        return state

    def num_processes(self, step: int) -> int:
        """Return how many processes wrote the checkpoint of a step; earlier versions kept what the first one had."""
        return max(1, len(list(self.path(step).glob("rank-*.pt"))))

    def load_own(self, step: int, rank: int) -> dict[str, Any]:
        """Return what a process had of its own; in a checkpoint of an earlier version it is in the shared file."""
        name = OWN.format(rank)
        return self._load_state(step, name if (self.path(step) / name).exists() else STATE)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        names = (NAME.fullmatch(path.name) for path in self.folder.glob(f"{PREFIX}*") if path.is_dir())
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"{PREFIX}{step:06d}"

    def _remove_others(self, step: int, best_step: int | None) -> None:
        """Keep the last checkpoints up to a step and the best; what is later was damaged, or another run went on."""
        steps = self.steps()
        kept = [each for each in steps if each <= step][-self.keep_last :]
        for each in steps:
            if each not in (*kept, best_step):
                remove(self.path(each))

    def _damage(self, step: int) -> str:
        """Say what is wrong with the files of a step; nothing where they are whole."""
        folder = self.path(step)
        try:
            found = damage(folder)
            if not found and not (folder / MARKER).exists():  # of an earlier version
                _read(folder / WEIGHTS, load_file)
                for name in [STATE, *(path.name for path in folder.glob("rank-*.pt"))]:
                    self._load_state(step, name)
        except ValueError as error:
            return str(error).rstrip(".")
        return "; ".join(found)

    def _load_state(self, step: int, name: str) -> dict[str, Any]:
        return _read(self.path(step) / name, lambda path: torch.load(path, map_location="cpu", weights_only=True))


def _save(values: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:  # Python's, which keeps the cause where the system refuses to write
        torch.save(dict(values), file)


def _read(path: Path, load: Callable[[Path], T]) -> T:
    """Load a file; ValueError, which names it, where it cannot be."""
    try:
        return load(path)
    except Exception as error:  # of a damaged file, whatever its bytes lead to
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error}).") from error


def _tensors(value: Any, name: str) -> dict[str, torch.Tensor]:
    """Return all tensors in nested mappings, by their path."""
    if isinstance(value, torch.Tensor):
        return {name: local(value)}
    parts = value.items() if isinstance(value, Mapping) else ()
    return {key: tensor for part, inner in parts for key, tensor in _tensors(inner, f"{name}.{part}").items()}


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights by name; shared ones once, under the first of their names."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in module.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            weights[name] = tensor.detach().contiguous()
        seen.add(tensor.data_ptr())
    return weights
