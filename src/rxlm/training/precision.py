"""Which precision matrix products are computed in."""

import time
from functools import cache

import torch

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


def product_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 8) -> float:
    """Return the operations a second of the product of two square matrices on the CPU, the best of some."""
    one, other = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        one @ other
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)
