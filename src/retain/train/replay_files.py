"""A replay on the disk: every checkpoint adds a file with the rows since the last one, and rewrites
none."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from retain.data.replay import Replay
from retain.train.checkpoint import check_digest, tensors_of
from retain.train.files import digest, read_bytes, write_bytes
from retain.train.validation import fitting

FOLDER = "replay"

Entry = dict[str, Any]
"""A file's entry: its number, the count of complete rows of each environment when it was written,
and its digest."""


def file_name(entry: Entry) -> str:
    """The name of an entry's file: `rows_000001.safetensors`, ..."""
    return f"rows_{entry['number']:06d}.safetensors"


def add_rows(replay: Replay, folder: Path, entries: list[Entry]) -> list[Entry]:
    """Writes the rows that the files of `entries` lack; returns the replay's files."""
    folder.mkdir(parents=True, exist_ok=True)
    since = np.array(entries[-1]["written"]) if entries else np.zeros_like(replay.written)
    number, index = replay.rows_since(since)
    tensors = replay.read(number, index)
    tensors |= {"row": torch.from_numpy(number), "env": torch.from_numpy(index)}
    entry = {
        "number": entries[-1]["number"] + 1 if entries else 1,
        "written": replay.written.tolist(),
    }
    temporary = folder / f".{file_name(entry)}.tmp"
    content = save({key: x.contiguous() for key, x in tensors.items()})
    entry["sha256"] = digest(content)
    write_bytes(temporary, content)
    temporary.replace(folder / file_name(entry))
    oldest = replay.written - replay.rows
    return [e for e in entries if (np.array(e["written"]) > oldest).any()] + [entry]


def load_rows(replay: Replay, folder: Path, entries: list[Entry]) -> None:
    """Fills an empty replay from its files, oldest first.

    Raises:
        CheckpointError: a file is missing or broken; names it.
    """
    for entry in entries:
        path = folder / file_name(entry)
        content = read_bytes(path)
        if "sha256" in entry:
            check_digest(path, content, entry["sha256"])
        tensors = tensors_of(content, path)
        with fitting(path):
            number, index = tensors.pop("row").numpy(), tensors.pop("env").numpy()
            replay.put(number, index, tensors)


def check_rows(folder: Path, entries: list[Entry]) -> None:
    """Checks that no file of a replay has changed.

    Raises:
        CheckpointError: names the first file that has changed.
    """
    for entry in entries:
        path = folder / file_name(entry)
        content = read_bytes(path)
        if "sha256" in entry:
            check_digest(path, content, entry["sha256"])


def prune_rows(folder: Path, needed: set[int]) -> None:
    """Removes files whose numbers no checkpoint needs any more."""
    for path in folder.glob("rows_*.safetensors"):
        number = path.stem.removeprefix("rows_")
        if number.isdecimal() and int(number) not in needed:
            path.unlink()
