"""Protects a training run from a closed terminal and a full disk."""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retain.errors import StorageError

NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Error numbers for a full disk, an exhausted quota or a file-size limit."""


class Unbreakable:
    """A text stream that falls silent when its reader has gone (`retain train ... | head`)."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, unless the reader has gone."""
        try:
            return int(self._stream.write(text))
        except (BrokenPipeError, ValueError):
            self._silence()
            return len(text)

    def flush(self) -> None:
        """Flushes, unless the reader has gone."""
        try:
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._silence()

    def _silence(self) -> None:
        """Sends the buffer's rest to the null device, since Python complains at exit otherwise."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def room_to_write(run: Path | None) -> Iterator[None]:
    """Turns a full disk inside the block into one line that says how to continue.

    Raises:
        StorageError: there is no room; the last checkpoint is complete.
    """
    before = threading.excepthook
    if run is not None:
        threading.excepthook = _quiet(before)
    try:
        yield
    except OSError as error:
        if run is None or error.errno not in NO_ROOM:
            raise
        raise StorageError(
            f"{error.filename or run}: {error.strerror}; nothing up to the last checkpoint is "
            f"lost: once there is room, continue with: retain resume {run}"
        ) from error
    finally:
        threading.excepthook = before


def _quiet(before: Any) -> Any:
    """Silences TensorBoard's writer thread, which meets the full disk too."""

    def hook(found: Any) -> None:
        if not (isinstance(found.exc_value, OSError) and found.exc_value.errno in NO_ROOM):
            before(found)

    return hook
