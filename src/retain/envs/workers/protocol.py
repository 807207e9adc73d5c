"""What a pool and its worker processes say to each other.

A worker is told `2 * group` to step a group, `2 * group + 1` to reset where the group's mask says
so, or `PLAY_BACK`. It answers `DONE`, or `FAULTS` after a message that lists them.
"""

import os
import time
from typing import Any

PLAY_BACK = b"\xff"
DONE, FAULTS = b".", b"!"
Part = tuple[int, list[tuple[int, list[Any]]]]
"""What `PLAY_BACK`'s message holds for a group: its slot to write to, and seed and actions of some
environments in order."""


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
            os.sched_yield()
        if cell[0] >= wanted:
            return True
        if time.perf_counter_ns() - began > self.BUSY:
            self.pause = self.PAUSE
        return False
