"""The C library's allocator, told to keep what it will be asked for again a moment later."""

import ctypes
import functools
import os

TRIM, TOP_PAD, MMAP = -1, -2, -3
"""glibc's names for them: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (mallopt(3))."""
MEGABYTE = 1 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Lets freed memory stay with the process instead of going back to the system at once.

    Each minibatch frees tensors that the next one needs again. By default glibc returns larger
    ones to the system and gets them back page by page, zeroed, which is a quarter of an update at
    2048 rows of 64 features (benchmarks/cpu.py). Here up to 256 MB of freed memory are kept.

    Returns:
        Whether anything was changed: not without glibc, nor where MALLOC_... variables are set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    settings = ((MMAP, 32 * MEGABYTE), (TRIM, 256 * MEGABYTE), (TOP_PAD, 16 * MEGABYTE))
    taken: list[int] = [mallopt(option, value) for option, value in settings]
    return min(taken) > 0
