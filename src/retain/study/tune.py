"""Runs the same small search for every variant, so that no variant loses through settings meant for
another."""

from dataclasses import asdict, dataclass, replace
from itertools import product
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from retain.errors import UsageError
from retain.study.compare import Study, Tick, Variant, claim, in_silence, train_all
from retain.study.outcome import run_trial
from retain.train import checkpoint as store
from retain.train.algorithms import algorithm_class
from retain.train.config import field_names

TRIALS = 8
SEED = 1001
"""Seed of every trial; the comparison's seeds count from 1, so its runs are fresh."""
SPACE: dict[str, tuple[Any, ...]] = {
    "learning_rate": (1e-4, 3e-4, 1e-3, 3e-3),
    "gamma": (0.95, 0.99, 0.995),
    "entropy_coef": (0.0, 0.01),
    "update_ratio": (0.25, 1.0),
}
"""The settings to search, if the algorithm has them and the study does not set them."""


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
    """The settings to try, the same for every variant: first no change, then draws from `SPACE`.

    Raises:
        UsageError: no setting is left to search.
    """
    fixed = {*study.settings, *(name for v in study.variants for name in v.settings)}
    known = field_names(algorithm_class(study.algo).config_kind)
    names = [name for name in SPACE if name in known and name not in fixed]
    grid = [dict(zip(names, v, strict=True)) for v in product(*(SPACE[n] for n in names))]
    if not names or trials < 2:
        raise UsageError("nothing to tune: at least 2 trials and one field that is not set")
    order = np.random.default_rng(0).permutation(len(grid))[: trials - 1]
    return [{}, *(grid[index] for index in order)]


def tune(
    study: Study, out: Path, *, jobs: int | None = None, tick: Tick = in_silence
) -> tuple[Study, list[Tuned]]:
    """The study with every variant's best settings from `study.trials` trials, each as long as the
    study's runs, so that all variants get the same trials at the same cost.

    Args:
        out: the study's folder; its subfolder `tune` holds the trials.
    Raises:
        UsageError: the study is impossible, or the folder holds another study.
    """
    study.check()
    claim(study, out)
    choices = candidates(study, study.trials)
    runs = [
        (Variant(f"{variant.name} trial {number}", variant.settings | choice), SEED)
        for number, choice in enumerate(choices)
        for variant in study.variants
    ]
    outcomes = train_all(study, runs, out / "tune", jobs=jobs, tick=tick, one=run_trial)
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
