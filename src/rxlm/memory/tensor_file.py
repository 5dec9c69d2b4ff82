"""Files of tensors that are read whole and checked before anything is made of them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from rxlm.file_errors import naming
from rxlm.files import write_atomically
from rxlm.nn.weights import is_finite

_DIGEST = "digest"


def tensors_to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return what `write_tensors` writes; ValueError for NaN or infinity."""
    own, sealed = _sealed(tensors, metadata)
    return save(own, sealed)


def tensors_from_bytes(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of what `tensors_to_bytes` returned; ValueError where it is damaged."""
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(str(error)) from error
    _check_seal(tensors, metadata)
    return tensors, metadata


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with a digest of all that is in it; an old file stays whole until the new one is.

    ValueError, before anything is written, for NaN or infinity; OSError where the system refuses it.
    """
    own, sealed = _sealed(tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(path, lambda temporary: save_file(own, temporary, sealed))
    except SafetensorError as error:  # what the system refuses, as a full disk does; it names no file
        raise OSError(f"{path}: {error}") from error


def read_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a file that `write_tensors` wrote, or an earlier version without a digest.

    ValueError where it is damaged, or holds NaN or infinity.
    """
    try:
        with naming(path), safe_open(path, framework="pt", device=str(device)) as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    _check_seal(tensors, metadata)
    return tensors, metadata


def _sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata as they are written, with a digest; ValueError for NaN or infinity."""
    # Storage of their own: states may share what a turn did not change, and safetensors refuses shared storage.
    own = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    check_finite(own)
    return own, {**metadata, _DIGEST: _digest(own, metadata)}


def _check_seal(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Take the digest out of the metadata; ValueError where it is that of something else, or for NaN or infinity."""
    digest = metadata.pop(_DIGEST, None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise ValueError("its digest is not that of what it holds")
    check_finite(tensors)


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError, which names the tensor, for NaN or infinity."""
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise ValueError(f"the tensor {name!r} holds NaN or infinity")


def add_tensors(digest: "hashlib._Hash", tensors: Mapping[str, Tensor]) -> None:
    """Add names, types, shapes and values to a digest, in the order of names."""
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(metadata.items()):
        digest.update(f"{name} {len(value)} {value}".encode())
    add_tensors(digest, tensors)
    return digest.hexdigest()
