"""Keeps a folder to one process at a time."""

import contextlib
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from retain.errors import UsageError

fcntl: Any = None
with contextlib.suppress(ImportError):  # Windows: folders are not locked there
    import fcntl

NAME = "pid.lock"
"""File with the id of the process that holds, or last held, the folder."""


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Holds a folder inside the block; the system releases it however the process ends.

    Raises:
        UsageError: another process holds it; the line gives its id.
    """
    if folder is None:
        yield
        return
    with take(folder):
        yield


@contextmanager
def held(folder: Path, seconds: float = math.inf) -> Iterator[None]:
    """Holds a folder inside the block, and waits before it while another process does.

    Raises:
        UsageError: the process still holds it after this many seconds; the line gives its id.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            file = take(folder)
        except UsageError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
            continue
        with file:
            yield
        return


def take(folder: Path) -> IO[str]:
    """Holds a folder until the file that is returned is closed; see `locked`."""
    file = os.fdopen(os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    if fcntl is None:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = file.read(20).strip() or "unknown"
        file.close()
        raise UsageError(
            f"{folder} is in use by process {owner} (expected a folder that nobody writes to)"
        ) from None
    except OSError:  # a file system without locks
        return file
    with contextlib.suppress(OSError):  # a full disk: the lock holds, it only has no name on it
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file
