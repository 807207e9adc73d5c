"""The trials of a sweep, in Optuna's storage, which is the truth about them.

A trial belongs to the process that holds the lock of its folder; the system releases the lock
however the process ends. So a process that has a slot free first takes over the trials that a
killed process left, with their settings and their runs' checkpoints, and asks for new ones only
then. One process at a time hands out trials.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from retain.errors import UsageError
from retain.study.space import Dimension
from retain.study.storage import PRUNERS, Repeatable, key, open_storage, restored, stored, suggest
from retain.train.files import make_folder
from retain.train.lock import held, take

NAME = "retain sweep"
MEMORY, DEFAULT, REASON, FACTS = "memory", "default", "reason", "sweep"
"""Names in the storage."""

Space: TypeAlias = Mapping[str, Sequence[Dimension]]
"""The dimensions of a search for each memory."""


@dataclass(frozen=True)
class TrialResult:
    """A trial that is over.

    Args:
        values: the searched settings, by the dimension's name.
        value: interquartile mean of the seeds' returns; None if the trial was given up.
        reason: why it was given up; empty if it was not.
        default: whether it had the default settings; `values` are then those in their ranges.
    """

    number: int
    memory: str
    values: dict[str, Any]
    value: float | None
    reason: str
    default: bool


class OpenTrial:
    """A trial that this process runs."""

    def __init__(
        self, trial: optuna.Trial, study: optuna.Study, space: Space, lock: IO[str]
    ) -> None:
        self._trial, self._study, self._lock = trial, study, lock
        self.number = trial.number
        memories = list(space)
        alone = len(memories) == 1
        self.memory = memories[0] if alone else trial.suggest_categorical(MEMORY, memories)
        within = trial.user_attrs.get(DEFAULT)
        self.default = within is not None
        dimensions = [d for d in space[self.memory] if within is None or d.name in within]
        self.values = {one.name: suggest(trial, one) for one in dimensions}
        self._reported = set(_frozen(study, self.number).intermediate_values)

    def report(self, step: int, value: float) -> bool:
        """Reports a value once; returns whether the pruner gives the trial up."""
        if step not in self._reported:
            self._reported.add(step)
            self._trial.report(value, step)
        return self._trial.should_prune()

    def finish(self, value: float) -> TrialResult:
        """Enters the trial's value."""
        return self._end(self._study.tell(self._trial, value))

    def give_up(self, reason: str) -> TrialResult:
        """Ends the trial early; it counts as worse than those that finished."""
        self._trial.set_user_attr(REASON, reason)
        return self._end(self._study.tell(self._trial, state=TrialState.PRUNED))

    def _end(self, frozen: FrozenTrial) -> TrialResult:
        self.release()
        return _result(frozen, self.memory, self.values)

    def release(self) -> None:
        """Lets another process take the trial over."""
        self._lock.close()


class Trials:
    """The storage of one sweep.

    Args:
        file: an SQLite file (.db), or a journal (.journal), which also works on a network's disk.
        out: folder of the trials' runs.
        facts: what the sweep is, as JSON.
        defaults: for each memory, the default settings' values that lie in their ranges.
        trials: number of trials.
    Raises:
        UsageError: the file is no storage, or holds another sweep.
    """

    def __init__(
        self,
        file: Path,
        out: Path,
        *,
        facts: Mapping[str, Any],
        space: Space,
        defaults: Mapping[str, Mapping[str, Any]],
        pruner: str,
        trials: int,
    ) -> None:
        self.out, self.space, self.trials = out, space, trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        make_folder(out)
        with held(self.out):
            self._storage = open_storage(file)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                direction="maximize",
                load_if_exists=True,
                sampler=Repeatable(startup=min(10, max(4, trials // 4))),
                pruner=PRUNERS[pruner](),
            )
            known = self._study.user_attrs.get(FACTS)
            if known is None:
                self._begin(facts, defaults)
            elif known != json.loads(json.dumps(facts)):
                raise UsageError(f"{file} holds another sweep; choose another --out")

    def _begin(self, facts: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> None:
        """Puts the default settings first, one trial for each memory."""
        there = len(self._study.get_trials(deepcopy=False))  # a process may have died right here
        for memory, values in list(defaults.items())[there:]:
            fixed = {} if len(self.space) == 1 else {MEMORY: memory}
            for one in self.space[memory]:
                if one.name in values:
                    fixed[key(one)] = stored(one, values[one.name])
            self._study.enqueue_trial(fixed, user_attrs={DEFAULT: list(values)})
        self._study.set_user_attr(FACTS, dict(facts))

    def next(self) -> OpenTrial | None:
        """A trial that a killed process left, or a new one; None if there is none to hand out."""
        with held(self.out):
            known = self._study.get_trials(deepcopy=False)
            for frozen in known:
                if frozen.state == TrialState.RUNNING:
                    lock = self._take(frozen.number)
                    if lock is not None:
                        return OpenTrial(self._again(frozen), self._study, self.space, lock)
            if sum(frozen.state != TrialState.WAITING for frozen in known) >= self.trials:
                return None
            trial = self._study.ask()
            lock = self._take(trial.number)
            assert lock is not None
            return OpenTrial(trial, self._study, self.space, lock)

    @property
    def over(self) -> bool:
        """Whether every trial is over, also those of other processes."""
        return len(self.results()) >= self.trials

    def results(self) -> list[TrialResult]:
        """The trials that are over, by number."""
        found = []
        for frozen in self._study.get_trials(deepcopy=False):
            if frozen.state.is_finished():
                memory = frozen.params.get(MEMORY, next(iter(self.space)))
                known = [one for one in self.space[memory] if key(one) in frozen.params]
                values = {one.name: restored(one, frozen.params[key(one)]) for one in known}
                found.append(_result(frozen, memory, values))
        return found

    def folder(self, number: int) -> Path:
        """The folder of a trial's runs."""
        return self.out / f"{number:04d}"

    def _again(self, frozen: FrozenTrial) -> optuna.Trial:
        study = self._storage.get_study_id_from_name(NAME)
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, frozen.number)
        return optuna.Trial(self._study, trial)

    def _take(self, number: int) -> IO[str] | None:
        make_folder(self.folder(number))
        try:
            return take(self.folder(number))
        except UsageError:
            return None


def _frozen(study: optuna.Study, number: int) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[number]


def _result(frozen: FrozenTrial, memory: str, values: dict[str, Any]) -> TrialResult:
    """A trial that is over, from the storage."""
    done = frozen.state == TrialState.COMPLETE
    reason = "" if done else frozen.user_attrs.get(REASON, frozen.state.name.lower())
    default = DEFAULT in frozen.user_attrs
    value = frozen.value if done else None
    return TrialResult(frozen.number, memory, values, value, reason, default)
