"""What a launcher tells a process that is one of several ranks, without torch."""

import os
from pathlib import Path

STORE = "RETAIN_STORE"
"""Environment variable with the file through which the ranks of one machine find each other."""
TIMEOUT = "RETAIN_RANK_TIMEOUT"
"""Environment variable with the seconds that a rank waits for another one."""
LINES = "RETAIN_RANK_LINES"
"""Environment variable with the folder where each rank leaves its last line for the launcher."""
LOST = 75
"""Exit status of a rank that lost another one: trying again may help."""
NO_ANSWER = "gave no answer"
"""What a rank says of another one that hangs."""
WAIT = 300.0
"""Seconds that a rank waits for another one, unless told otherwise."""
PARENT = os.getppid()
"""The process that started this one."""


def started() -> bool:
    """Whether a launcher started this process as one of several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def leads() -> bool:
    """Whether this process speaks for the run: it is rank 0, or the only one."""
    return not started() or os.environ["RANK"] == "0"


def restarts() -> int:
    """How often torchrun has started this group of ranks again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def seconds() -> float:
    """Seconds that a rank waits for another one."""
    return float(os.environ.get(TIMEOUT, WAIT))


def orphaned() -> bool:
    """Whether the launcher of this rank is gone, so that nobody would start it again."""
    return LINES in os.environ and started() and os.getppid() != PARENT


def leave_line(text: str) -> bool:
    """Leaves a rank's last line for its launcher, if there is one that asked for it."""
    folder = os.environ.get(LINES)
    if folder is None or not started():
        return False
    if not Path(folder).is_dir():  # the launcher is gone
        return False
    Path(folder, os.environ["RANK"]).write_text(text)
    return True
