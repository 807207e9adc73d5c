"""A progress bar over several runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from retain.study.launcher import Tick


@contextmanager
def runs_progress(title: str) -> Iterator[Tick]:
    """Shows a progress bar; yields a function to call with the steps done and the total steps."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, total=total, completed=min(done, total))
