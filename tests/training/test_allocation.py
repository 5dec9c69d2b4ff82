"""Freed memory stays with the process that trains."""

import platform
import subprocess
import sys

import pytest

MEASURE = """
import ctypes
import resource
from rxlm.training.allocation import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
libc.free.argtypes = (ctypes.c_void_p,)
LARGE = 48 << 20  # glibc gives everything above 32 MB back at once
def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(LARGE)
    libc.memset(block, 1, LARGE)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
use()
print(sum(use() for _ in range(8)))
"""


def page_faults(kept: bool) -> int:
    """Return the page faults of eight large blocks that are used and freed behind another, in a new process."""
    program = [sys.executable, "-c", MEASURE.format(kept=kept)]
    return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_a_large_block_that_was_freed_serves_the_next() -> None:
    assert page_faults(kept=True) < page_faults(kept=False) / 2
