"""Memory that tensors free on a CPU stays with the process."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
NEVER = -1


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensor; return whether it does.

    A training step allocates and frees the same large tensors again and again. By default glibc gives each of more
    than 32 MB back to the system, and asks for it again, page by page: on virtual machines that can take longer than
    the arithmetic. Kept, the process stays as large as it once was. Only glibc is told; elsewhere nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_ARENA_MAX, 1)))
