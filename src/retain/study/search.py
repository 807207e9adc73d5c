"""The loop of a sweep: opens trials, trains their runs, and shows the learning curves to the
pruner."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from math import isnan
from pathlib import Path

import numpy as np

from retain.errors import CheckpointError, RunFailure, UsageError
from retain.study.launcher import PAUSE, Launcher, Tick, steps_of
from retain.study.outcome import RunPlan
from retain.study.statistics import iqm
from retain.study.storage import POINTS
from retain.study.sweep import Sweep
from retain.study.trials import OpenTrial, TrialResult, Trials
from retain.train.plot import read_curve
from retain.train.trainer import Interrupted, stop_signals

Told = Callable[[TrialResult], None]
"""A function called with each trial that is over."""


class Going:
    """A trial whose runs are trained one after another."""

    def __init__(self, trial: OpenTrial, plans: Sequence[RunPlan], launcher: Launcher) -> None:
        self.trial, self.plans, self._launcher = trial, plans, launcher
        self._returns: list[float] = []
        self._handle = launcher.submit(plans[0])

    @property
    def steps(self) -> int:
        """Steps of all its runs so far."""
        return sum(steps_of(plan.folder) for plan in self.plans)

    def look(self) -> TrialResult | None:
        """Reports what is new, and goes on to the next seed; the result if the trial is over.

        Raises:
            RetainError: a run failed for a reason that is not the trial's settings.
        """
        handle = self._handle
        if not self._returns:
            for step, value in curve(self.plans[0]):
                if self.trial.report(step, value):
                    handle.stop()
                    return self.trial.give_up(f"pruned after {step / POINTS:.0%} of a run")
        if not handle.done:
            return None
        try:
            found = handle.result().evaluation
        except (RunFailure, UsageError) as error:
            if self.trial.default:
                raise
            return self.trial.give_up(str(error))
        if isnan(found):
            return self.trial.give_up("a loss was not finite")
        return self._next(found)

    def _next(self, found: float) -> TrialResult | None:
        self._returns.append(found)
        done, mean = len(self._returns), float(iqm(self._returns))
        if done == len(self.plans):
            return self.trial.finish(mean)
        if self.trial.report(POINTS + done, mean):
            return self.trial.give_up(f"pruned after {done} of {len(self.plans)} seeds")
        self._handle = self._launcher.submit(self.plans[done])
        return None


def curve(plan: RunPlan) -> Iterator[tuple[int, float]]:
    """The points of a run's learning curve so far: their numbers from 1 to `POINTS`, and the mean
    training return that was logged there."""
    try:
        steps, returns = read_curve(plan.folder)
    except CheckpointError:  # no row yet, or half of one
        return
    for point in range(1, POINTS + 1):
        row = int(np.searchsorted(steps, plan.steps * point / POINTS))
        if row < len(steps):
            yield point, float(returns[row])


def search(
    sweep: Sweep, trials: Trials, out: Path, launcher: Launcher, *, tick: Tick, told: Told
) -> None:
    """Trains trials until all of them are over, also those of other processes.

    Raises:
        Interrupted: a signal stopped the search; the same call continues it.
        RetainError: a run failed for a reason that is not its trial's settings.
    """
    going: list[Going] = []
    over = len(trials.results())
    with stop_signals(active=True) as stop, ExitStack() as stack:
        stack.callback(_release, going)
        stack.enter_context(launcher)  # its runs stop before their trials are let go
        while True:
            while len(going) < launcher.slots and (trial := trials.next()) is not None:
                begun = _begin(sweep, trials, trial, launcher)
                if isinstance(begun, TrialResult):
                    told(begun)
                    over += 1
                else:
                    going.append(begun)
            if not going and trials.over:
                return
            launcher.wait(PAUSE)
            if stop.number is not None:
                raise Interrupted(out, stop.number)
            for one in [*going]:
                result = one.look()
                if result is not None:
                    going.remove(one)
                    told(result)
                    over += 1
            each = sweep.seeds * sweep.steps
            tick(over * each + sum(one.steps for one in going), sweep.trials * each)


def _release(going: Sequence[Going]) -> None:
    for one in going:
        one.trial.release()


def _begin(
    sweep: Sweep, trials: Trials, trial: OpenTrial, launcher: Launcher
) -> Going | TrialResult:
    """Hands over a trial's first run, or gives up a trial whose settings exclude each other."""
    try:
        sweep.resolve(trial.memory, sweep.changes(trial))
    except UsageError as error:
        return trial.give_up(str(error))
    return Going(trial, sweep.plans(trials.out, trial), launcher)
