"""Copies of run folders at a place that all machines reach, for those that share no folder.

A copy is a set of contents by their SHA-256, and an index that names them by path and is written
last: whoever dies while copying leaves the copy before, whole.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from retain.errors import UsageError
from retain.train import checkpoint as store
from retain.train.files import digest
from retain.train.lock import NAME as LOCK

INDEX = "index.json"


class Mirror:
    """The copies under one URL.

    Args:
        url: an fsspec URL of a folder, such as s3://bucket/study.
    Raises:
        UsageError: there is no such kind of place, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"store is {url!r}: {error} (expected an fsspec URL such as s3://bucket/study)"
            ) from None

    def push(self, folder: Path, name: str) -> None:
        """Copies a run folder, whole checkpoints only, whatever the run does meanwhile."""
        place = f"{self._root}/{name}"
        best, index = folder / store.FOLDER / store.BEST, None
        while index is None:  # until no checkpoint was cleared away or replaced in the middle
            before = _identity(best)
            try:
                index = self._send(folder, place)
            except FileNotFoundError:
                continue
            index = index if _identity(best) == before else None
        self._write(f"{place}/{INDEX}", json.dumps(index).encode())
        wanted = set(index.values())
        for path in self._files.ls(place, detail=False):
            if Path(path).name not in {*wanted, INDEX}:
                self._files.rm(path)

    def _send(self, folder: Path, place: str) -> dict[str, str]:
        """Copies what is not there yet. Checkpoints come first: what grows beside them may be
        further than they are, but not less far."""
        kept = [*store.checkpoints(folder), folder / store.FOLDER / store.BEST]
        paths = [file for one in kept if one.is_dir() for file in sorted(one.rglob("*"))]
        paths += [file for file in sorted(folder.rglob("*")) if _beside(file, folder)]
        index = {}
        for path in paths:
            if path.is_file():
                content = path.read_bytes()
                index[path.relative_to(folder).as_posix()] = name = digest(content)
                if not self._files.exists(f"{place}/{name}"):
                    self._write(f"{place}/{name}", content)
        return index

    def pull(self, name: str, folder: Path) -> bool:
        """Makes a folder equal to its copy; returns whether there is one."""
        index = self.index(name)
        if index is None:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in index.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._files.cat_file(f"{self._root}/{name}/{content}"))
        return True

    def index(self, name: str) -> dict[str, str] | None:
        """The files of a copy, each with its content's digest; None if there is no copy."""
        try:
            found: Any = json.loads(self._files.cat_file(f"{self._root}/{name}/{INDEX}"))
        except FileNotFoundError:
            return None
        return {str(path): str(content) for path, content in found.items()}

    def _write(self, path: str, content: bytes) -> None:
        """Writes next to `path` and moves it there: a reader sees all of it or nothing."""
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(f"{path}.part", content)
        self._files.mv(f"{path}.part", path)


def _identity(folder: Path) -> int | None:
    """A number that changes when another folder takes this one's place."""
    return folder.stat().st_ino if folder.exists() else None


def _beside(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder).parts
    return inside[0] not in (store.FOLDER, LOCK) and not inside[-1].startswith(".")
