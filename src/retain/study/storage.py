"""Optuna as the engine of a sweep: storage, sampler and pruners, and settings as its numbers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from retain.errors import UsageError
from retain.ranges import Between, Log, NearOne
from retain.study.space import Dimension
from retain.typed import write

POINTS = 10
"""Points of the learning curve that a pruner sees of a trial's first seed."""
JOURNALS, DATABASES = (".journal",), (".db", ".sqlite", ".sqlite3")

PRUNERS: Mapping[str, Callable[[], BasePruner]] = {
    "none": NopPruner,
    "median": lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=POINTS // 4),
    "asha": lambda: SuccessiveHalvingPruner(min_resource=POINTS // 4, reduction_factor=3),
}


def open_storage(file: Path) -> BaseStorage:
    """Optuna's storage in a file, made if it is missing.

    Raises:
        UsageError: the name has another ending, or the file holds something else.
    """
    if file.suffix not in (*JOURNALS, *DATABASES):
        raise UsageError(f"study is {file} (expected a file ending in .db or .journal)")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        if file.suffix in JOURNALS:
            return JournalStorage(JournalFileBackend(str(file)))
        waiting = {"connect_args": {"timeout": 60}}
        return RDBStorage(f"sqlite:///{file}", engine_kwargs=waiting)
    except Exception as error:  # of any class: the storage's engine raises its own
        line = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(f"{file} cannot be read as a study: {line}") from None


class Repeatable(BaseSampler):
    """TPE whose draws depend only on the trial's number and the trials before it, so that a sweep
    that was killed goes on as it would have.

    Args:
        startup: trials with random settings before the model begins.
    """

    def __init__(self, startup: int) -> None:
        self.startup = startup
        self.inner = TPESampler(n_startup_trials=startup)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begins the trial's own random numbers."""
        self.inner = TPESampler(n_startup_trials=self.startup, seed=trial.number)
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As TPE."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As TPE."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)


def key(one: Dimension) -> str:
    """The name of a setting in the storage, which holds 1 - gamma rather than gamma."""
    return f"1 - {one.name}" if isinstance(one.range, NearOne) else one.name


def stored(one: Dimension, value: Any) -> Any:
    """A setting's value as the storage holds it."""
    if isinstance(one.range, NearOne):
        return one.range.rest.within(1 - value)
    return value if isinstance(one.range, Between) else write(value)


def restored(one: Dimension, value: Any) -> Any:
    """The setting's value that the storage holds."""
    if isinstance(one.range, NearOne):
        return 1 - value
    if isinstance(one.range, Between):
        return value
    return next(choice for choice in one.range.examples if write(choice) == value)


def suggest(trial: optuna.Trial, one: Dimension) -> Any:
    """The trial's value of a setting: chosen by the sampler, unless the storage holds it."""
    where = one.range.rest if isinstance(one.range, NearOne) else one.range
    if not isinstance(where, Between):
        choices = [write(choice) for choice in where.examples]
        return restored(one, trial.suggest_categorical(key(one), choices))
    log = isinstance(where, Log)
    if one.whole:
        return trial.suggest_int(key(one), round(where.low), round(where.high), log=log)
    return restored(one, trial.suggest_float(key(one), where.low, where.high, log=log))
