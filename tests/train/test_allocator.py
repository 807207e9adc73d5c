"""Freed memory is kept, unless somebody else decided."""

import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from retain.train.allocator import keep_freed_memory

changed = keep_freed_memory()
for _ in range(3):  # the heap grows to its size
    [np.ones(1 << 20, np.uint8) for _ in range(20)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    [np.ones(1 << 20, np.uint8) for _ in range(20)]
print(changed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def outcome(**environment):
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    changed, faults = done.stdout.split()
    return changed == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_is_asked_for_again_is_not_fetched_again():
    changed, faults = outcome()
    left_alone, more = outcome(MALLOC_ARENA_MAX="2")
    assert changed
    assert not left_alone
    assert faults < 500 < 20_000 < more
