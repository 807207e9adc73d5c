"""Trains every variant on every seed, in parallel, and remembers finished runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from retain.envs.make import make
from retain.errors import UsageError
from retain.study.launcher import Launcher, Tick, in_silence, run_all
from retain.study.outcome import Outcome, RunPlan
from retain.study.processes import Processes
from retain.train import checkpoint as store
from retain.train.algorithms import algorithm_class
from retain.train.config import RunConfig, check_names, field_names, parts_of
from retain.train.files import make_folder
from retain.train.relevance import Situation, check_relevant, irrelevant
from retain.train.resolved import resolved

Found = dict[str, list[Outcome]]
"""The outcomes of every variant, seed by seed."""


@dataclass(frozen=True)
class Variant:
    """A name, and the settings that distinguish a variant from the others."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """The description of a comparison.

    Args:
        settings: settings of all variants, which override the presets.
        steps: steps of each run.
        seeds: runs of each variant, seeds 1 to n.
        trials: number of trials in the search that first tunes each variant; 0 means no search.
    """

    SEEDS: ClassVar[str] = "--seeds"
    """The flag that sets the number of seeds."""
    AT_BUDGET: ClassVar[bool] = False
    """Whether the question is what is best after just these steps, so that a variant may still be
    learning when it is judged."""

    env: str
    algo: str
    variants: tuple[Variant, ...]
    steps: int
    seeds: int
    settings: dict[str, Any] = field(default_factory=dict)
    episodes: int = 20
    trials: int = 0

    def folder(self, out: Path, variant: Variant, seed: int) -> Path:
        """The run folder of a variant's seed."""
        return out / variant.name.replace("/", "-").replace(" ", "_") / f"seed{seed}"

    def check(self) -> None:
        """Refuses a study that no run could be made from, before anything is trained.

        Raises:
            UsageError: an algorithm, field or value is unknown, or there are fewer than two
                variants or seeds.
        """
        algorithm_class(self.algo)  # refuses what there is not
        self.check_sizes()
        self.check_settings()

    def check_sizes(self) -> None:
        """Refuses too few of anything.

        Raises:
            UsageError: names what there is too little of.
        """
        for name, least in (("variants", 2), ("seeds", 2), ("steps", 1), ("episodes", 1)):
            value = getattr(self, name)
            size = len(value) if isinstance(value, tuple) else value
            if size < least:
                raise UsageError(f"{name}: {size} (expected at least {least})")

    def check_settings(self) -> None:
        """Refuses settings that no run could be made from, or that would do nothing.

        Raises:
            UsageError: names the setting.
        """
        kind = algorithm_class(self.algo)
        for variant in self.variants:
            settings = self.settings | variant.settings
            if "seed" in settings:
                raise UsageError("seed cannot be set: every variant runs the same seeds")
            check_names(settings, field_names(RunConfig, kind.config_kind))
            check_relevant(variant.settings, self._situation(variant))
        idle = [irrelevant(self.settings, self._situation(variant)) for variant in self.variants]
        for name in self.settings:
            if all(name in reasons for reasons in idle):
                raise UsageError(f"{name} would do nothing in any variant: {idle[0][name]}")

    def settings_of(self, variant: Variant) -> dict[str, Any]:
        """A variant's settings, without common settings that would do nothing in it."""
        idle = irrelevant(self.settings, self._situation(variant))
        kept = {name: value for name, value in self.settings.items() if name not in idle}
        return kept | variant.settings

    def facts(self) -> dict[str, Any]:
        """What must be the same when the study goes on in its folder; variants and seeds may be
        added."""
        facts = {
            "env": self.env, "algo": self.algo, "steps": self.steps, "settings": self.settings,
            "episodes": self.episodes,
        }  # fmt: skip
        return facts | ({"trials": self.trials} if self.trials else {})

    def plan(self, out: Path, variant: Variant, seed: int) -> RunPlan:
        """The run of a variant on a seed."""
        settings = self.settings_of(variant) | {"seed": seed, "threads": 1}
        folder = self.folder(out, variant, seed)
        return RunPlan(self.env, self.algo, settings, self.steps, folder, self.episodes)

    def _situation(self, variant: Variant) -> Situation:
        kind = algorithm_class(self.algo)
        values = resolved(self.algo, self.env, self.settings | variant.settings)
        run, config = parts_of(values, RunConfig, kind.config_kind)
        return Situation(self.algo, self.env, (config, run))


def variants_of(field_name: str, values: Sequence[Any]) -> tuple[Variant, ...]:
    """One variant for each value of a field."""
    bare = field_name == "memory"
    return tuple(
        Variant(str(value) if bare else f"{field_name} {value}", {field_name: value})
        for value in values
    )


def compare(
    study: Study,
    out: Path,
    *,
    jobs: int | None = None,
    launcher: Launcher | None = None,
    tick: Tick = in_silence,
) -> Found:
    """Trains the missing runs; returns the outcomes of every variant, seed by seed.

    Args:
        out: folder of all runs; the same study continues where it stopped.
        jobs: number of runs at the same time; None means one per core.
        launcher: executes the runs instead of local processes.
    Raises:
        UsageError: the study is impossible, or the folder holds another study.
        Interrupted: a signal stopped the study; the same call continues it.
    """
    study.check()
    launcher = launcher or Processes(jobs)
    make(study.env, 1).close()  # an environment that cannot be made is told here, once
    claim(study, out)
    runs = [(variant, seed) for seed in range(1, study.seeds + 1) for variant in study.variants]
    plans = [study.plan(out, variant, seed) for variant, seed in runs]
    found: Found = {variant.name: [] for variant in study.variants}
    for (variant, _), outcome in zip(runs, run_all(plans, out, launcher, tick=tick), strict=True):
        found[variant.name].append(outcome)
    return found


def claim(study: Study, out: Path) -> None:
    """Claims the folder for this study, with as many seeds as are requested this time.

    Raises:
        UsageError: the folder belongs to another study.
    """
    facts = json.loads(json.dumps(study.facts()))
    path = out / "study.json"
    if path.exists() and store.read_json(path) != facts:
        raise UsageError(f"{out} holds another comparison; choose another --out")
    make_folder(out)
    store.write_json(path, facts)
