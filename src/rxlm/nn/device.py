"""Devices, and types of weights on them, by their names."""

from typing import Literal, get_args

import torch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""auto: bfloat16 on a GPU that computes it, elsewhere as the weights are saved."""


def device_of(name: str) -> torch.device:
    """Return a device that this machine has: cpu, cuda, cuda:1, mps; ValueError where there is no such one."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"There is no device {name!r}; known are cpu, cuda, cuda:N and mps.") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"Device {name!r} is not one to compute on; known are cpu, cuda, cuda:N and mps.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"PyTorch finds no mps here, and device is {name!r}; it must be cpu.")
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and gpus == 0:
        raise ValueError(f"PyTorch finds no CUDA GPU here, and device is {name!r}; it must be cpu.")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"There is no device {name!r}: this machine has {gpus} GPU(s), cuda:0 to cuda:{gpus - 1}.")
    return device


def dtype_of(name: Dtype, device: torch.device | str) -> torch.dtype | None:
    """Return the type that weights have on a device; None: that in which they are saved. ValueError for another name.

    Half the bytes are half the time of a token, where a step waits for its weights.
    """
    if name not in get_args(Dtype):
        raise ValueError(f"dtype must be one of {', '.join(get_args(Dtype))}, got {name!r}.")
    if name == "auto":
        on_gpu = torch.device(device).type == "cuda"
        return torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else None
    return getattr(torch, name)
