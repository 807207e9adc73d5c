"""The contract of an engine that executes the runs of a study, and the loop that waits for them.

A study describes its runs (`RunPlan`) and hands them to a `Launcher`. The engine may be local
processes (`retain.study.processes`) or machines of a cluster: what the study needs back lies in the
run folder, which both see. A run that dies is handed out again and resumes from its checkpoint, so
that a retry costs the steps since then, and changes no number.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import Protocol, Self, runtime_checkable

from retain.errors import UsageError
from retain.study.outcome import Outcome, RunPlan, finished
from retain.train.trainer import Interrupted, stop_signals

RETRIES = 2
"""Times that a run whose process died is resumed."""
PAUSE = 0.5
"""Seconds between two looks at the runs."""

Tick = Callable[[int, int], None]
"""A function called about once a second with the steps done and the total steps."""


def in_silence(done: int, total: int) -> None:
    """A tick that shows nothing."""


class Handle(Protocol):
    """A run that was handed to a launcher."""

    @property
    def plan(self) -> RunPlan:
        """What was asked for."""

    @property
    def done(self) -> bool:
        """Whether the run has an outcome, has failed, or was stopped."""

    def result(self) -> Outcome:
        """The outcome of a run that is done.

        Raises:
            RetainError: what the run raised; `RunFailure` if its process died more than `RETRIES`
                times.
            Interrupted: the run was stopped.
        """

    def stop(self) -> None:
        """Asks the run to write its checkpoint and stop; one that has not begun never does."""


class Settled:
    """A `Handle` whose run ends in its folder: the part that every engine shares.

    Args:
        plan: what was asked for; if its folder already holds the outcome, the run is done.
    """

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self._outcome = finished(plan)
        self._failure: BaseException | None = None
        self._stopped = False

    @property
    def done(self) -> bool:
        """Whether the run has an outcome, has failed, or was stopped."""
        return self._outcome is not None or self._failure is not None

    def result(self) -> Outcome:
        """The outcome of a run that is done; raises what the run raised."""
        if self._failure is not None:
            raise self._failure
        assert self._outcome is not None
        return self._outcome

    def settle(self, outcome: Outcome | None, raised: BaseException | None) -> bool:
        """Notes how the run ended; false if it died, and may be handed out again.

        Args:
            outcome: what its folder holds.
            raised: what it raised, if it could still say so.
        """
        self._outcome = outcome
        if outcome is None and self._stopped:
            self._failure = Interrupted(self.plan.folder, SIGTERM)
        elif outcome is None and raised is not None and not isinstance(raised, Interrupted):
            self._failure = raised
        return self.done


def check_jobs(jobs: int | None) -> None:
    """Checks a number of runs at the same time.

    Raises:
        UsageError: it is below 1.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs} (expected at least 1)")


@runtime_checkable
class Launcher(Protocol):
    """An engine that executes runs; leaving its block stops those that are not done."""

    @property
    def slots(self) -> int:
        """Number of runs at the same time; more may be submitted, and wait their turn."""

    def submit(self, plan: RunPlan) -> Handle:
        """Hands over a run."""

    def wait(self, seconds: float) -> None:
        """Returns when a run is done, or after this many seconds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...


def run_all(
    plans: Sequence[RunPlan], out: Path, launcher: Launcher, *, tick: Tick = in_silence
) -> list[Outcome]:
    """The outcome of every run, in order.

    Args:
        out: the study's folder, for the message after a signal.
    Raises:
        Interrupted: a signal stopped the runs; the same call continues them.
        RetainError: what the first run that failed raised; the others were stopped.
    """
    total = sum(plan.steps for plan in plans)
    with stop_signals(active=True) as stop, launcher:
        handles = [launcher.submit(plan) for plan in plans]
        while True:
            results = [handle.result() for handle in handles if handle.done]
            tick(progress_of([plan.folder for plan in plans]), total)
            if len(results) == len(plans):
                return results
            launcher.wait(PAUSE)
            if stop.number is not None:
                raise Interrupted(out, stop.number)


def progress_of(folders: Sequence[Path]) -> int:
    """Steps that all runs have logged so far."""
    return sum(map(steps_of, folders))


def steps_of(folder: Path) -> int:
    """Steps that a run has logged so far."""
    path = folder / "metrics.csv"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode().splitlines()
    last = lines[-1].split(",")[0] if len(lines) > 1 else ""
    return int(last) if last.isdigit() else 0
