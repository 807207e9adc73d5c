"""Shows a run on the terminal."""

import math
import sys
import time
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from retain.train.callbacks.base import Callback, Ended, Row, RowLogged, Started, Warned
from retain.train.callbacks.registry import register_callback
from retain.train.streams import Unbreakable

SHOWN = {
    "return_mean": "return (last 100)",
    "length_mean": "length (last 100)",
    "is_success": "success (last 100)",
    "eval_return_mean": "evaluation",
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


def show(value: float) -> str:
    """A metric formatted for people."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@register_callback("terminal")
class Terminal(Callback):
    """A live view on a terminal, plain lines elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.console = Console(file=Unbreakable(stream or sys.stderr))  # type: ignore[arg-type]
        self.began = self.drawn = time.monotonic()
        self.live: Live | None = None
        self.last: Row = {}
        self.printed: Row | None = None

    def on_start(self, event: Started) -> None:
        """Begins the view."""
        run = event.run
        self.first, self.total, self.title = run.steps, run.end, run.agent.name
        self.began = self.drawn = time.monotonic()
        if self.console.is_terminal:
            self.progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("ETA {task.fields[eta]}"),
                console=self.console,
            )
            self.task = self.progress.add_task(
                self.title, total=self.total, completed=self.first, eta="-"
            )
            self.live = Live(self._view({}), console=self.console, auto_refresh=False)
            self.live.start()

    def on_row(self, event: RowLogged) -> None:
        """Redraws at most four times a second; without a terminal, prints a line every ten
        seconds."""
        row = event.metrics
        # An evaluation's numbers stay until the next one.
        kept = {
            k: v for k, v in self.last.items() if k.startswith("eval_") and row.get(k) != row.get(k)
        }
        self.last = row | kept
        now = time.monotonic()
        if self.live is not None:
            if now - self.drawn > 0.25:
                self.drawn = now
                self._draw(self.last)
        elif now - self.drawn > 10 or self.printed is None:
            self.drawn = now
            self._line(self.last)

    def _eta(self, step: float) -> str:
        rate = (step - self.first) / max(time.monotonic() - self.began, 1e-9)
        # A segment may end beyond the planned steps.
        seconds = int(max(self.total - step, 0) / rate) if rate > 0 else 0
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
        share = min(row["step"] / self.total, 1.0)
        values = "  ".join(f"{name} {show(row[name])}" for name in SHOWN if name in row)
        self.console.print(
            f"{self.title}  {int(row['step']):,}/{self.total:,} ({share:.0%})  {values}"
            f"  ETA {self._eta(row['step'])}",
            highlight=False,
            soft_wrap=True,
        )

    def on_warning(self, event: Warned) -> None:
        """Prints a line above the live view."""
        self.say(f"warning: {event.text}")

    def say(self, text: str) -> None:
        """Prints a line for people."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def on_end(self, event: Ended) -> None:
        """Draws the last row and restores the terminal."""
        if self.live is not None:
            if self.last:
                self._draw(self.last)
            self.live.stop()
        elif self.last and self.last is not self.printed:
            self._line(self.last)
        if event.reason == "asked":
            self.say(f"{event.by} asked to stop at step {event.run.steps:,}")
