"""Files of a run folder, which may come from anyone: only plain files inside the folder are read or
written, and no file that is larger than memory."""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from retain.errors import CheckpointError, UsageError

JSON_BYTES = 64 * 2**20
"""Size of the largest JSON file that is read."""


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or a lower limit if one is set."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no such call on this system
        total = 2**62
    try:
        import resource
    except ImportError:
        return total
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return total if limit == resource.RLIM_INFINITY else min(total, limit)


def refuse_links(folder: Path) -> None:
    """Checks that the folder holds only plain files and folders, so no link leads elsewhere or in
    circles.

    Raises:
        CheckpointError: names the first other entry.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a plain file"
                raise CheckpointError(f"{path} is {kind} (expected plain files in a run folder)")


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """A plain file's content.

    Args:
        most: largest accepted size; None means the size of memory.
    Raises:
        CheckpointError: the file is missing, not a plain file, too large or unreadable; names it.
    """
    most = memory_bytes() if most is None else most
    try:
        size = path.lstat()
        if not stat.S_ISREG(size.st_mode):
            raise CheckpointError(f"{path} is not a plain file")
        if size.st_size > most:
            raise CheckpointError(f"{path} has {size.st_size:,} bytes (expected at most {most:,})")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from None


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in a file's content.

    Raises:
        CheckpointError: the content is broken or not an object; names the file.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__} (expected an object)")
    return value


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, and returns once it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def keep_bytes(path: Path, offset: int) -> None:
    """Cuts off what a killed run wrote after its checkpoint, down to the `offset` bytes that the
    file had then; makes a new file if the offset is 0.

    Raises:
        CheckpointError: the file is shorter, so some of its data is lost.
    """
    size = path.lstat().st_size if path.exists() else 0
    if size < offset:
        raise CheckpointError(
            f"{path} has {size:,} bytes, but had {offset:,} when the checkpoint was written: "
            "it was shortened or removed"
        )
    path.touch(exist_ok=True)
    with path.open("r+b") as file:
        file.truncate(offset)


def make_folder(path: Path, name: str = "out") -> None:
    """Makes a folder and its parents.

    Raises:
        UsageError: the folder cannot be made; says why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{name} is {shorten(path)}: {why} (expected a folder that can be made)"
        ) from None
    if not os.access(path, os.W_OK):
        raise UsageError(f"{name} is {path}: not writable (expected a folder to write into)")


def shorten(value: Any, most: int = 80) -> str:
    """A value as text that fits in one line."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"
