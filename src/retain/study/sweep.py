"""A sweep: searches settings over trials, and compares the best with the defaults on fresh seeds.

A trial trains its seeds one after another. The learning curve of the first seed and the mean after
each further one are shown to the pruner, which may give the trial up. A trial's value is the
interquartile mean of its final agents' returns. The best trial was picked for its luck too; hence
its settings and the default ones train once more, on seeds that no trial has seen, and what is
reported is that comparison.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from retain.errors import UsageError, unknown
from retain.memory import memory_class
from retain.ranges import Range
from retain.study.compare import Study, Variant, variants_of
from retain.study.outcome import RunPlan
from retain.study.space import Base, Dimension, check_search, settings_from, space_of, values_in
from retain.study.tune import SEED
from retain.train.preset_file import preset_of
from retain.train.presets import Preset
from retain.train.resolved import resolved

Pruner = Literal["none", "median", "asha"]
DEFAULT, TUNED = "default", "tuned"
"""The names of the two variants that are compared in the end."""


class Choice(Protocol):
    """A trial, going on or over."""

    @property
    def number(self) -> int:
        """Its number, from 0."""

    @property
    def memory(self) -> str:
        """Its memory."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Its searched settings, by the dimension's name."""

    @property
    def default(self) -> bool:
        """Whether it has the default settings."""


class Fresh(Study):
    """The comparison at the end of a sweep."""

    SEEDS = "--fresh-seeds"
    AT_BUDGET = True

    def facts(self) -> dict[str, Any]:
        """As of any study; more trials may be added to the search."""
        return {name: value for name, value in super().facts().items() if name != "trials"}


@dataclass(frozen=True)
class Sweep:
    """The description of a sweep.

    Args:
        memory: the memories to choose from.
        steps: steps of each run.
        trials: number of trials, the default settings with each memory among them.
        seeds: runs of each trial.
        fresh_seeds: runs with the best settings and with the default ones, on seeds that no trial
            has seen; 0 leaves the comparison out.
        settings: settings of all runs, which override the presets and are not searched.
        search: ranges that replace those that the settings declare, or search further settings.
        pruner: none, median (gives up what is below the median of the other trials at the same
            step) or asha (lets a third of the trials pass at each of a few steps).
        episodes: whole episodes that each final agent plays.
    """

    algo: str
    env: str
    memory: tuple[str, ...] = ("none",)
    steps: int = 100_000
    trials: int = 40
    seeds: int = 3
    fresh_seeds: int = 5
    settings: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Range] = field(default_factory=dict)
    pruner: Pruner = "median"
    episodes: int = 20

    def check(self) -> None:
        """Refuses a sweep that cannot be made, before anything is trained.

        Raises:
            UsageError: names the setting, and the nearest valid one.
        """
        least = {"seeds": 1, "steps": 1, "episodes": 1, "trials": len(self.memory) + 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"{name} is {getattr(self, name)} (expected at least {low})")
        if self.fresh_seeds not in (0, *range(2, 10_000)):
            raise UsageError(f"fresh_seeds is {self.fresh_seeds} (expected 0, or at least 2)")
        if self.pruner not in get_args(Pruner):
            raise unknown("pruner", self.pruner, get_args(Pruner))
        for memory in self.memory:
            memory_class(memory)
        if "memory" in self.settings:
            raise UsageError("memory cannot be set: give the memories to choose from")
        self.study.check_settings()
        check_search(self.base(self.memory[0]), self.memory, self.search)
        self._check_space()
        for memory in self.memory:
            preset_of(self.algo, self.env, self._settings(memory))

    def _check_space(self) -> None:
        searched = {one.option or one.name for space in self.space.values() for one in space}
        for name in self.search:
            if name not in searched:
                raise UsageError(
                    f"search {name}: it would do nothing with memory {' or '.join(self.memory)}"
                )
        for memory, space in self.space.items():
            if not space:
                raise UsageError(f"nothing to search with memory {memory!r}: name settings")

    @cached_property
    def study(self) -> Study:
        """The study whose runs are the trials'; a variant for each memory."""
        return Study(
            self.env, self.algo, variants_of("memory", self.memory), self.steps, self.seeds,
            self.settings, self.episodes,
        )  # fmt: skip

    def base(self, memory: str) -> Base:
        """What the search with one memory stands on."""
        return Base(self.algo, self.env, self._settings(memory))

    def _settings(self, memory: str) -> dict[str, Any]:
        """The settings of all runs with one memory."""
        return self.study.settings_of(Variant(memory, {"memory": memory}))

    @cached_property
    def space(self) -> dict[str, tuple[Dimension, ...]]:
        """The dimensions of the search for each memory."""
        return {memory: space_of(self.base(memory), memory, self.search) for memory in self.memory}

    def facts(self) -> dict[str, Any]:
        """What must be the same when the sweep goes on; trials may be added."""
        return {
            "algo": self.algo, "env": self.env, "memory": self.memory, "steps": self.steps,
            "seeds": self.seeds, "episodes": self.episodes, "settings": self.settings,
            "search": {
                memory: {one.name: str(one.range) for one in space}
                for memory, space in self.space.items()
            },
        }  # fmt: skip

    def defaults(self) -> dict[str, dict[str, Any]]:
        """For each memory, the default settings' values that lie in their ranges."""
        return {
            memory: values_in(space, self.resolve(memory, {}), memory)
            for memory, space in self.space.items()
        }

    def resolve(self, memory: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting of an agent.

        Raises:
            UsageError: the settings exclude each other.
        """
        return resolved(self.algo, self.env, {**self._settings(memory), **changes})

    def changes(self, trial: Choice) -> dict[str, Any]:
        """The settings in which a trial differs from the default ones."""
        if trial.default:
            return {}
        base = self._settings(trial.memory)
        return settings_from(self.space[trial.memory], trial.values, base)

    def preset(self, trial: Choice) -> Preset:
        """The settings that give an agent those of a trial, from a preset file."""
        settings = {**self._settings(trial.memory), **self.changes(trial)}
        return preset_of(self.algo, self.env, settings)

    def plans(self, out: Path, trial: Choice) -> list[RunPlan]:
        """The runs of a trial, one for each seed."""
        variant = Variant(f"{trial.number:04d}", {"memory": trial.memory, **self.changes(trial)})
        plans = [self.study.plan(out, variant, SEED + seed) for seed in range(self.seeds)]
        return [replace(plan, trial=True) for plan in plans]

    def fresh(self, best: Choice) -> Fresh:
        """The comparison of the best trial's settings with the default ones, with its memory."""
        same = {"memory": best.memory}
        variants = Variant(DEFAULT, same), Variant(TUNED, same | self.changes(best))
        return Fresh(
            self.env, self.algo, variants, self.steps, self.fresh_seeds, self.settings,
            self.episodes, self.trials,
        )  # fmt: skip
