"""Writes metrics.csv, the run as a table."""

import csv
import math
from pathlib import Path
from typing import Final

from retain.errors import CheckpointError
from retain.train.callbacks.base import Callback, Ended, Row, RowLogged, Started
from retain.train.callbacks.registry import register_callback
from retain.train.contract import State

TIMING: Final = ("seconds", "steps_per_second")
"""Columns that differ between two identical runs."""


def text(value: float) -> str:
    """A number as text that reads back exactly."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


@register_callback("csv")
class CSV(Callback):
    """Writes one row per update. A metric that appears later gets a new column, with NaN in earlier
    rows.

    A resumed run drops the rows that a killed run wrote after its checkpoint.
    """

    def __init__(self) -> None:
        self.rows = 0

    def on_start(self, event: Started) -> None:
        """Opens the file and drops rows after the checkpoint.

        Raises:
            CheckpointError: the file has too few rows.
        """
        assert event.run.folder is not None
        self.path = event.run.folder / "metrics.csv"
        lines = self._lines()[: self.rows + 1] if self.rows else []
        if self.rows >= max(len(lines), 1):
            raise CheckpointError(
                f"{self.path} has {max(len(lines) - 1, 0)} rows, but had {self.rows} when the "
                "checkpoint was written: it was shortened or removed"
            )
        self.columns = lines[0].rstrip("\r\n").split(",") if lines else []
        _replace(self.path, lines)
        self.file = self.path.open("a", newline="")

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return file.readlines()

    def on_row(self, event: RowLogged) -> None:
        """Appends one line."""
        new = [name for name in event.metrics if name not in self.columns]
        if new:
            self._widen(new)
        self._write(event.metrics)

    def _write(self, row: Row) -> None:
        csv.writer(self.file).writerow(text(row.get(name, math.nan)) for name in self.columns)
        self.file.flush()  # a search and a progress bar read the rows as they come
        self.rows += 1

    def _widen(self, new: list[str]) -> None:
        """Adds columns."""
        self.file.close()
        self.columns += new
        header = ",".join(self.columns) + "\r\n"
        old = [line.rstrip("\r\n") + ",nan" * len(new) + "\r\n" for line in self._lines()[1:]]
        _replace(self.path, [header, *old])
        self.file = self.path.open("a", newline="")

    def state(self) -> State:
        """The number of rows on the disk."""
        self.file.flush()
        return {"rows": self.rows}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.rows = state["rows"]

    def on_end(self, event: Ended) -> None:
        """Closes the file."""
        self.file.close()


def _replace(path: Path, lines: list[str]) -> None:
    """Writes a file completely or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="") as file:
        file.writelines(lines)
    temporary.replace(path)
