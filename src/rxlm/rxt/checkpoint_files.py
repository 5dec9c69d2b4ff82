"""The files of a checkpoint, in a folder or on the Hugging Face hub."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rxlm.file_errors import read_json_object
from rxlm.folders import check_saved

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another kind; the message names the file and what is wrong."""


class CheckpointFiles:
    """The files of one checkpoint, in a folder or on the hub; downloaded when asked for.

    With `mapped`, weights stay in their file until they are written to: they take no memory, and processes share what
    they read of them.
    """

    def __init__(self, name: str | Path, *, mapped: bool = False, **download: Any) -> None:
        self.name = os.path.expanduser(name)
        self.mapped, self.download = mapped, download

    @property
    def is_local(self) -> bool:
        """Whether the checkpoint is a folder on this machine."""
        return Path(self.name).is_dir()

    def path(self, filename: str) -> Path:
        """Return the path of one file of the checkpoint."""
        if self.is_local:
            path = Path(self.name) / filename
            if not path.is_file():
                raise CheckpointError(f"The folder {self.name} has no {filename}.")
            return path
        place = Path(self.name)
        if place.is_absolute() or self.name.startswith(".") or len(place.parts) > 2:  # no model id is like this
            raise CheckpointError(f"There is no folder {self.name}{_similar(place)}.")
        try:
            return Path(hf_hub_download(self.name, filename, **self.download))
        except (HFValidationError, RepositoryNotFoundError) as error:
            raise CheckpointError(
                f"{self.name!r} is neither a folder on this machine{_similar(place)} nor a model id that the hub "
                f"knows: {error}"
            ) from error
        except EntryNotFoundError as error:
            reason = "is not in the cache, and the hub is out of reach" if _is_offline(error) else "is not there"
            raise CheckpointError(
                f"{self.name!r} is no folder on this machine{_similar(place)}, and its file {filename} on the hub "
                f"{reason}: {error}"
            ) from error

    def config(self) -> dict[str, Any]:
        """Return the parsed `config.json`."""
        return read_json_object(self.path(CONFIG_FILE), CheckpointError)

    def weights(self) -> dict[str, Tensor]:
        """Return the tensors of `model.safetensors`, in storage of their own unless they are to be mapped.

        In the file a tensor may begin anywhere. Where weights are not aligned as PyTorch aligns its own, some kernels
        round the last bit differently: a model that was saved and loaded would not be bit-equal to itself.
        """
        path = self.path(WEIGHTS_FILE)
        try:
            return {name: each if self.mapped else each.clone() for name, each in load_file(path).items()}
        except (SafetensorError, ValueError, OSError) as error:
            raise CheckpointError(f"{path} is damaged: {error}. Download or save the checkpoint again.") from error

    def check(self) -> None:
        """Raise `CheckpointError` where the files in a folder are not those that were saved together."""
        if self.is_local:
            try:
                check_saved(self.name)
            except ValueError as error:
                raise CheckpointError(str(error)) from error


def _similar(path: Path) -> str:
    """Name the folder beside the one that is missing whose name is most like its own."""
    folders = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
    found = get_close_matches(path.name, folders, 1, cutoff=0.75)
    return f" (did you mean {path.parent / found[0]}?)" if found else ""


def _is_offline(error: Exception) -> bool:
    return isinstance(error, LocalEntryNotFoundError)
