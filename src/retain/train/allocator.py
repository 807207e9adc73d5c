"""Tells the C library's allocator to keep memory that will soon be needed again."""

import ctypes
import functools
import os

TRIM, TOP_PAD, MMAP = -1, -2, -3
"""glibc's names for these: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (mallopt(3))."""
MEGABYTE = 1 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Keeps freed memory in the process instead of returning it to the system at once.

    Each minibatch frees tensors that the next one needs again. By default glibc returns larger ones
    to the system and gets them back page by page, zeroed, which takes a quarter of an update at
    2048 rows of 64 features (benchmarks/cpu.py). Up to 256 MB of freed memory are kept here.

    Returns:
        Whether anything changed; nothing does without glibc, or if MALLOC_... variables are set.
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
