"""The protocol between a pool and its worker processes.

The pool sends `2 * group` to step a group, `2 * group + 1` to reset where the group's mask says so,
or `PLAY_BACK`. The worker answers `DONE`, or `NEWS` followed by a message with faults and the infos
of ended episodes. The message comes second because it may be larger than the pipe: the parent is
reading by then.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from retain.envs.contract import Fault, Info

offer_core: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))
"""Offers the core to another process; macOS has no call of its own for this."""
PLAY_BACK = b"\xff"
DONE, NEWS = b".", b"!"
Part = tuple[int, list[tuple[int, list[Any]]]]
"""One group's part of the `PLAY_BACK` message: the slot to write to, and the seed and actions of
some environments in order."""
News = tuple[list[tuple[int, Fault]], list[tuple[int, int, Info]]]
"""The `NEWS` message: faults, each after its group, and infos, each after its group and the
environment's index in the worker."""


def plain(value: object) -> bool:
    """Whether a value consists of numbers, text or arrays of numbers, alone or in containers, so
    that another process can read it whatever it has imported."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(inside) for key, inside in value.items())
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(plain, value))
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcSU"
    return value is None or type(value) in (bool, int, float, str)


class Watch:
    """Checks a shared counter for about 50 us before a wait goes to sleep, since waking a sleeper
    costs as much. After every check it offers the core to other processes.

    If other processes keep the core for long without answering, the machine is busy, and the next
    waits sleep at once.

    Args:
        cell: the counter.
        looks: number of checks per wait.
    """

    LOOKS, FEW = 100, 10
    """Checks per wait: LOOKS, or FEW if there is no core to spare. A checking process counts as
    busy, and two workers may share one core."""
    BUSY, PAUSE = 400_000, 1000
    """Nanoseconds after which a wait was too long, and the number of waits that then only sleep."""

    def __init__(self, cell: memoryview, looks: int = LOOKS) -> None:
        self.cell, self.looks, self.pause = cell, looks, 0

    def reached(self, wanted: int) -> bool:
        """Whether the counter reached `wanted` during the checks."""
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
