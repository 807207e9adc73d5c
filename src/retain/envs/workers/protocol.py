"""What a pool and its worker processes say to each other.

A worker is told `2 * group` to step a group, `2 * group + 1` to reset where the group's mask says
so, or `PLAY_BACK`. It answers `DONE`, or `NEWS` and then a message of faults and of what
environments said besides as their episodes ended. The message comes second because it may be larger
than the pipe: the parent is reading by then.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from retain.envs.contract import Fault, Info

offer_core: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))
"""Lets another process have the core; macOS has no call of its own for it."""
PLAY_BACK = b"\xff"
DONE, NEWS = b".", b"!"
Part = tuple[int, list[tuple[int, list[Any]]]]
"""What `PLAY_BACK`'s message holds for a group: its slot to write to, and seed and actions of some
environments in order."""
News = tuple[list[tuple[int, Fault]], list[tuple[int, int, Info]]]
"""What `NEWS`'s message holds: faults, each after its group, and infos, each after its group and
the environment's place among the worker's."""


def plain(value: object) -> bool:
    """Whether a value is numbers, text or arrays of numbers, alone or in containers: what another
    process can read whatever it has imported."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(inside) for key, inside in value.items())
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(plain, value))
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcSU"
    return value is None or type(value) in (bool, int, float, str)


class Watch:
    """Looks at a shared counter for about 50 us before a wait goes to sleep: waking a sleeper costs
    as much. Every look is followed by an offer of the core to whoever needs it.

    Where others take the offer for long, and not to answer, the machine is busy, and the next waits
    sleep at once.

    Args:
        cell: the counter.
        looks: of a wait.
    """

    LOOKS, FEW = 100, 10
    """Looks of a wait; where there is no core to spare: whoever looks counts as busy, and two
    workers may be put on one core."""
    BUSY, PAUSE = 400_000, 1000
    """Nanoseconds after which a wait was too long; waits that then only sleep."""

    def __init__(self, cell: memoryview, looks: int = LOOKS) -> None:
        self.cell, self.looks, self.pause = cell, looks, 0

    def reached(self, wanted: int) -> bool:
        """Whether the counter came to `wanted` meanwhile."""
        cell = self.cell
        if self.pause:
            self.pause -= 1
            return bool(cell[0] >= wanted)
        began = time.perf_counter_ns()
        for _ in range(self.looks):
            if cell[0] >= wanted:
                return True
            offer_core()
        if cell[0] >= wanted:
            return True
        if time.perf_counter_ns() - began > self.BUSY:
            self.pause = self.PAUSE
        return False
