"""Where a run's metrics go: a CSV file, TensorBoard, and the terminal."""

import csv
import math
import sys
import time
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from retain.train.files import keep_bytes
from retain.train.streams import Unbreakable

Row = dict[str, float]

TIMING = ("seconds", "steps_per_second")
"""Columns that differ between two identical runs."""

SHOWN = {
    "return_mean": "return (last 100)",
    "length_mean": "length (last 100)",
    "steps_per_second": "steps/s",
    "approx_kl": "KL",
    "clip_fraction": "clip fraction",
    "value_clip_fraction": "value clip fraction",
    "entropy": "entropy",
    "explained_variance": "explained variance",
    "critic_loss": "critic loss",
    "q_mean": "mean Q",
    "actor_loss": "actor loss",
    "alpha": "alpha",
    "exploration": "exploration",
    "replay_size": "replay",
}


class Sink(Protocol):
    """Takes a row of metrics at every update."""

    def write(self, row: Row) -> None:
        """Takes one row; the same keys every time."""

    def close(self) -> None:
        """Finishes what is open."""


class CSVSink:
    """metrics.csv, one row an update, numbers written so that they read back exactly.

    Args:
        offset: bytes of an existing file to keep: a resumed run drops what a killed one wrote
            after its checkpoint.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        keep_bytes(path, offset)
        self.file = path.open("a", newline="")
        self.writer: Any = csv.writer(self.file)
        self.empty = offset == 0

    def write(self, row: Row) -> None:
        """Appends one line."""
        if self.empty:
            self.writer.writerow(row)
            self.empty = False
        self.writer.writerow(
            str(int(value)) if float(value).is_integer() else repr(value) for value in row.values()
        )

    def offset(self) -> int:
        """Bytes written so far, all of them handed to the system."""
        self.file.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


class TensorBoardSink:
    """TensorBoard events next to the CSV file.

    Args:
        first_step: events of an earlier process at or after this step are hidden.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(
            str(folder), purge_step=first_step, max_queue=10_000, flush_secs=30
        )

    def write(self, row: Row) -> None:
        """Adds one scalar a metric."""
        step = int(row["step"])
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                self.writer.add_scalar(GROUPS.get(name, "train") + "/" + name, value, step)

    def close(self) -> None:
        """Flushes and closes."""
        self.writer.close()


GROUPS = {
    "return_mean": "episode",
    "length_mean": "episode",
    "episodes": "episode",
    "seconds": "time",
    "steps_per_second": "time",
}


def show(value: float) -> str:
    """A metric for people."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class TerminalSink:
    """A live view on a terminal, plain lines elsewhere.

    Args:
        total: environment steps at the run's end.
        first: environment steps done before.
    """

    def __init__(self, title: str, *, first: int, total: int, stream: TextIO | None = None) -> None:
        self.first, self.total, self.title = first, total, title
        self.console = Console(file=Unbreakable(stream or sys.stderr))  # type: ignore[arg-type]
        self.began = self.drawn = time.monotonic()
        self.live: Live | None = None
        self.last: Row | None = None
        self.printed: Row | None = None
        if self.console.is_terminal:
            self.progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("ETA {task.fields[eta]}"),
                console=self.console,
            )
            self.task = self.progress.add_task(title, total=total, completed=first, eta="-")
            self.live = Live(self._view({}), console=self.console, auto_refresh=False)
            self.live.start()

    def write(self, row: Row) -> None:
        """Redraws at most four times a second; without a terminal, a line every ten seconds."""
        self.last = row
        now = time.monotonic()
        if self.live is not None:
            if now - self.drawn > 0.25:
                self.drawn = now
                self._draw(row)
        elif now - self.drawn > 10 or self.printed is None:
            self.drawn = now
            self._line(row)

    def _eta(self, step: float) -> str:
        rate = (step - self.first) / max(time.monotonic() - self.began, 1e-9)
        seconds = int((self.total - step) / rate) if rate > 0 else 0
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def _draw(self, row: Row) -> None:
        assert self.live is not None
        self.progress.update(self.task, completed=row["step"], eta=self._eta(row["step"]))
        self.live.update(self._view(row), refresh=True)

    def _view(self, row: Row) -> Group:
        table = Table.grid(padding=(0, 2))
        names = [name for name in SHOWN if name in row]
        for left, right in zip(names[::2], [*names[1::2], None], strict=False):
            cells = [SHOWN[left], f"[bold]{show(row[left])}"]
            if right is not None:
                cells += [SHOWN[right], f"[bold]{show(row[right])}"]
            table.add_row(*cells)
        return Group(self.progress, table)

    def _line(self, row: Row) -> None:
        self.printed = row
        share = row["step"] / self.total
        values = "  ".join(f"{name} {show(row[name])}" for name in SHOWN if name in row)
        self.console.print(
            f"{self.title}  {int(row['step']):,}/{self.total:,} ({share:.0%})  {values}"
            f"  ETA {self._eta(row['step'])}",
            highlight=False,
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        """A line of its own, above the live view."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Draws the last row and leaves the terminal as it was."""
        if self.live is not None:
            if self.last is not None:
                self._draw(self.last)
            self.live.stop()
        elif self.last is not None and self.last is not self.printed:
            self._line(self.last)
