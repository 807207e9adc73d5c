"""A replay on the disk: every checkpoint adds a file with the rows since the last one, and rewrites
none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

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


class Rows(NamedTuple):
    """Some ranks' rows that are about to be written."""

    tensors: dict[str, Tensor]
    """`[n, ...]` columns, with the number of each row and the run's number of its environment."""
    written: list[int]
    """Complete rows of each of their environments since the beginning."""


def rows_of(replays: Sequence[Replay], first: int, entries: list[Entry]) -> Rows:
    """The rows that the files of `entries` lack.

    Args:
        replays: the replays of neighbouring shards.
        first: the run's number of their first environment.
    """
    parts, written = [], list[int]()
    for replay in replays:
        since = np.zeros_like(replay.written)
        if entries:
            since = np.array(entries[-1]["written"][first : first + replay.num_envs])
        number, index = replay.rows_since(since)
        tensors = replay.read(number, index)
        tensors |= {"row": torch.from_numpy(number), "env": torch.from_numpy(index + first)}
        parts.append(tensors)
        written += replay.written.tolist()
        first += replay.num_envs
    return Rows(_side_by_side(parts), written)


def _side_by_side(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return parts[0]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def add_rows(rows: list[Rows], held: int, folder: Path, entries: list[Entry]) -> list[Entry]:
    """Writes a file with rows; returns the replay's files.

    Args:
        rows: those of all ranks, in order.
        held: rows of an environment's ring.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _side_by_side([each.tensors for each in rows])
    written = [count for each in rows for count in each.written]
    entry = {"number": entries[-1]["number"] + 1 if entries else 1, "written": written}
    temporary = folder / f".{file_name(entry)}.tmp"
    content = save({key: x.contiguous() for key, x in tensors.items()})
    entry["sha256"] = digest(content)
    write_bytes(temporary, content)
    temporary.replace(folder / file_name(entry))
    oldest = np.array(written) - held
    return [e for e in entries if (np.array(e["written"]) > oldest).any()] + [entry]


def load_rows(replays: Sequence[Replay], first: int, folder: Path, entries: list[Entry]) -> None:
    """Fills empty replays from their files, oldest first; see `rows_of`.

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
            number, env = tensors.pop("row").numpy(), tensors.pop("env").numpy()
            carried = {name: tensors.pop(name) for name in list(tensors) if name[:6] == "carry."}
            start = first
            if len(env) and not (0 <= env.min() <= env.max() < len(entry["written"])):
                raise IndexError(f"env is {env.min()} to {env.max()}")
            for replay in replays:
                mine = (env >= start) & (env < start + replay.num_envs)
                if mine.all():  # the only replay: nothing to pick out
                    replay.put(number, env - start, tensors | carried)
                    break
                own = {name: x[torch.from_numpy(mine)] for name, x in tensors.items()}
                at = torch.from_numpy(mine[number % replay.rows % replay.stride == 0])
                own |= {name: x[at] for name, x in carried.items()}
                replay.put(number[mine], env[mine] - start, own)
                start += replay.num_envs


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
