"""Runs of a benchmark on any launcher: processes of this machine, or Ray (docs/ray.md)."""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from retain.errors import RetainError
from retain.study.launcher import Handle, Launcher
from retain.study.launchers import LauncherOptions, make_launcher
from retain.study.outcome import Outcome, RunPlan
from retain.train.trainer import stop_signals

What = TypeVar("What")
PAUSE = 1.0


def add_flags(parser: argparse.ArgumentParser, jobs: int) -> None:
    """The flags that choose a launcher, as `retain compare` has them."""
    parser.add_argument("--jobs", type=int, default=jobs, help="runs at the same time")
    parser.add_argument("--launcher", default="processes", help="processes, ray or module:name")
    parser.add_argument("--address", default="", help="of the Ray")
    parser.add_argument("--run-cpus", type=float, default=1.0, help="that each run reserves of Ray")
    parser.add_argument("--run-gpus", type=float, default=0.0)
    parser.add_argument("--store", default="", help="URL for machines that share no folder")


def chosen_launcher(options: argparse.Namespace) -> Launcher:
    """The launcher that the flags describe."""
    return make_launcher(
        LauncherOptions(
            options.launcher, options.jobs, options.address, options.run_cpus, options.run_gpus,
            options.store,
        )
    )  # fmt: skip


def work(
    todo: Sequence[tuple[What, RunPlan]], launcher: Launcher, until: float
) -> Iterator[tuple[What, RunPlan, Outcome | RetainError]]:
    """What each run came to, as they end; none begins after `until`, and a signal stops all. The
    same call goes on with the runs that were stopped."""
    waiting = list(todo)
    going: list[tuple[What, Handle]] = []
    with stop_signals(active=True) as stop, launcher:
        while stop.number is None and (going or (waiting and time.monotonic() < until)):
            while waiting and len(going) < launcher.slots and time.monotonic() < until:
                what, plan = waiting.pop(0)
                going.append((what, launcher.submit(plan)))
            launcher.wait(PAUSE)
            for what, handle in [one for one in going if one[1].done]:
                going.remove((what, handle))
                try:
                    yield what, handle.plan, handle.result()
                except RetainError as error:
                    yield what, handle.plan, error
