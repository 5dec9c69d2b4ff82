"""Which precision matrix products are computed in."""

import time
from collections import Counter
from functools import cache

import torch
from torch import nn

NARROW = 256
"""Width of the smallest models that compute in bfloat16 on a CPU.

At a width of 128 the steps of whole trainings took nearly twice as long, where products alone were faster: each shape
has code of its own there, which is written when the shape comes first.
"""
WORTH_IT = 1.25
"""How many times as fast bfloat16 must multiply to be taken on a CPU: the casts around each product cost time, too."""


@cache
def computes_bfloat16(device: torch.device) -> bool:
    """Whether products of matrices are faster in bfloat16 than in float32.

    A CPU that has the instructions may still be slower with them (server CPUs whose matrix units the hypervisor hides
    are), so on a CPU both are timed, once, in a fraction of a second.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return False
    return product_rate(torch.bfloat16, size=768) > WORTH_IT * product_rate(torch.float32, size=768)


def gains_by_bfloat16(module: nn.Module, device: torch.device) -> bool:
    """Whether a module is trained faster in bfloat16 than in float32."""
    return (device.type != "cpu" or width_of(module) >= NARROW) and computes_bfloat16(device)


def width_of(module: nn.Module) -> int:
    """Return the smaller side of the matrices that most of a module's parameters are in; 0 where there are none."""
    sizes: Counter[int] = Counter()
    for parameter in module.parameters():
        if parameter.dim() > 1:
            sizes[min(parameter.shape[-2:])] += parameter.numel()
    return max(sizes, key=lambda size: sizes[size], default=0)


def product_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 8, device: torch.device | str = "cpu") -> float:
    """Return the operations a second of the product of two square matrices, the best of some."""
    unlike = (torch.arange(size * size, device=device) % 251 / 251 - 0.5).to(dtype)  # equal numbers multiply faster
    one, other = unlike.view(size, size), unlike.view(size, size).T.contiguous()
    times = []
    for _ in range(repeats):
        started = time_of(device)
        one @ other
        times.append(time_of(device) - started)
    return 2 * size**3 / min(times)


def time_of(device: torch.device | str) -> float:
    """Return the time in seconds, once a device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
