"""Runs the same small search for every variant, so that no variant loses through settings meant for
another."""

from dataclasses import asdict, dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from retain.errors import UsageError
from retain.study.compare import Study, Variant, claim
from retain.study.launcher import Launcher, Tick, in_silence, run_all
from retain.study.processes import Processes
from retain.study.space import Base, draw, space_of
from retain.train import checkpoint as store

TRIALS = 8
SEED = 1001
"""Seed of every trial; the comparison's seeds count from 1, so its runs are fresh."""
SEARCHED = ("learning_rate", "gamma", "entropy_coef", "update_ratio")
"""The settings to search, each in the range that it declares, if the algorithm has them and the
study does not set them."""


@dataclass(frozen=True)
class Tuned:
    """The result of the search for a variant."""

    variant: str
    settings: dict[str, Any]
    """The best trial's settings; empty if the variant's own settings were best."""
    evaluation: float
    """The best trial's return."""
    before: float
    """The return with the variant's own settings."""


def candidates(study: Study, trials: int) -> list[dict[str, Any]]:
    """The settings to try, the same for every variant: first no change, then random draws.

    Raises:
        UsageError: no setting is left to search.
    """
    varied = {name for v in study.variants for name in v.settings}
    base = Base(study.algo, study.env, study.settings)
    memory = study.settings.get("memory", "none")
    space = [one for one in space_of(base, memory, {}) if one.name in {*SEARCHED} - varied]
    if not space or trials < 2:
        raise UsageError("nothing to tune: at least 2 trials and one field that is not set")
    return [{}, *(draw(space, number) for number in range(1, trials))]


def tune(
    study: Study,
    out: Path,
    *,
    jobs: int | None = None,
    launcher: Launcher | None = None,
    tick: Tick = in_silence,
) -> tuple[Study, list[Tuned]]:
    """The study with every variant's best settings from `study.trials` trials, each as long as the
    study's runs, so that all variants get the same trials at the same cost.

    Args:
        out: the study's folder; its subfolder `tune` holds the trials.
        jobs, launcher, tick: see `compare`.
    Raises:
        UsageError: the study is impossible, or the folder holds another study.
    """
    study.check()
    claim(study, out)
    choices = candidates(study, study.trials)
    trials = [
        Variant(f"{variant.name} trial {number}", variant.settings | choice)
        for number, choice in enumerate(choices)
        for variant in study.variants
    ]
    plans = [replace(study.plan(out / "tune", trial, SEED), trial=True) for trial in trials]
    outcomes = run_all(plans, out, launcher or Processes(jobs), tick=tick)
    found, variants = [], []
    for column, variant in enumerate(study.variants):
        returns = [o.evaluation for o in outcomes[column :: len(study.variants)]]
        best = max(range(len(returns)), key=lambda k: -np.inf if isnan(returns[k]) else returns[k])
        found.append(Tuned(variant.name, choices[best], returns[best], returns[0]))
        variants.append(Variant(variant.name, variant.settings | choices[best]))
    _keep(out, found)
    return replace(study, variants=tuple(variants)), found


def _keep(out: Path, found: list[Tuned]) -> None:
    """Saves the search's choice; runs with another choice in the folder do not belong to this
    comparison.

    Raises:
        UsageError: the folder holds a comparison with other choices.
    """
    path = out / "tuned.json"
    chosen = {tuned.variant: tuned.settings for tuned in found}
    if path.exists():
        before = {f["variant"]: f["settings"] for f in store.read_json(path)["tuned"]}
        if any(before.get(name, settings) != settings for name, settings in chosen.items()):
            raise UsageError(f"{out} holds a comparison of other tuned settings; choose another")
    store.write_json(path, {"tuned": [asdict(tuned) for tuned in found]})
