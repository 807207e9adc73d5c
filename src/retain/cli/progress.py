"""A progress bar over several runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from retain.study.compare import Study


@contextmanager
def runs_progress(study: Study, variants: int) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar while inside; what it gives is to be called with steps done and altogether."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        runs = variants * study.seeds
        task = progress.add_task(f"{runs} runs", total=study.steps * runs)
        yield lambda done, total: progress.update(task, completed=min(done, total))
