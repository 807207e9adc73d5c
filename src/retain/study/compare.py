"""Trains every variant on every seed, in parallel, and remembers finished runs."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from retain.envs.make import make
from retain.errors import UsageError
from retain.study.outcome import Outcome, run_one
from retain.train import checkpoint as store
from retain.train.algorithms import algorithm_class
from retain.train.config import RunConfig, check_names, field_names, parts_of
from retain.train.files import make_folder
from retain.train.relevance import Situation, check_relevant, irrelevant
from retain.train.trainer import Interrupted

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
        for name, least in (("variants", 2), ("seeds", 2), ("steps", 1), ("episodes", 1)):
            value = getattr(self, name)
            size = len(value) if isinstance(value, tuple) else value
            if size < least:
                raise UsageError(f"{name}: {size} (expected at least {least})")
        kind = algorithm_class(self.algo)
        for variant in self.variants:
            settings = self.settings | variant.settings
            if "seed" in settings:
                raise UsageError("seed cannot be set: every variant runs the same seeds")
            check_names(settings, field_names(RunConfig, kind.config_kind))
            parts_of(settings, RunConfig, kind.config_kind)
            check_relevant(variant.settings, self._situation(variant))
        idle = [irrelevant(self.settings, self._situation(variant)) for variant in self.variants]
        for name in self.settings:
            if all(name in reasons for reasons in idle):
                raise UsageError(f"{name} would do nothing in any variant: {idle[0][name]}")

    def settings_of(self, variant: Variant) -> dict[str, Any]:
        """A variant's settings, without common settings that would do nothing in it."""
        kept = algorithm_class(self.algo).useful(self.settings | variant.settings, self.env)
        return kept | variant.settings

    def _situation(self, variant: Variant) -> Situation:
        kind = algorithm_class(self.algo)
        values = kind.run_defaults | self.settings | variant.settings
        run, config = parts_of(values, RunConfig, kind.config_kind)
        return Situation(self.algo, self.env, (config, run))


def variants_of(field_name: str, values: Sequence[Any]) -> tuple[Variant, ...]:
    """One variant for each value of a field."""
    bare = field_name == "memory"
    return tuple(
        Variant(str(value) if bare else f"{field_name} {value}", {field_name: value})
        for value in values
    )


def _quiet() -> None:
    """Sets up a worker process: the run's own handler gets Ctrl-C, and torch has one thread."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def progress_of(folders: Sequence[Path]) -> int:
    """Steps that all runs have logged so far."""
    total = 0
    for folder in folders:
        path = folder / "metrics.csv"
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 4096))
                lines = file.read().decode().splitlines()
            if len(lines) > 1 and lines[-1][:1].isdigit():
                total += int(lines[-1].split(",")[0])
    return total


Tick = Callable[[int, int], None]
"""A function called about once a second with the steps done and the total steps."""


def in_silence(done: int, total: int) -> None:
    """A tick that shows nothing."""


def compare(study: Study, out: Path, *, jobs: int | None = None, tick: Tick = in_silence) -> Found:
    """Trains the missing runs; returns the outcomes of every variant, seed by seed.

    Args:
        out: folder of all runs; the same study continues where it stopped.
        jobs: number of runs at the same time; None means one per core.
    Raises:
        UsageError: the study is impossible, or the folder holds another study.
        Interrupted: a signal stopped the study; the same call continues it.
    """
    study.check()
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs} (expected at least 1)")
    make(study.env, 1).close()  # an environment that cannot be made is told here, once
    claim(study, out)
    runs = [(variant, seed) for seed in range(1, study.seeds + 1) for variant in study.variants]
    outcomes = train_all(study, runs, out, jobs=jobs, tick=tick)
    found: Found = {variant.name: [] for variant in study.variants}
    for (variant, _), outcome in zip(runs, outcomes, strict=True):
        found[variant.name].append(outcome)
    return found


def train_all(
    study: Study,
    runs: Sequence[tuple[Variant, int]],
    out: Path,
    *,
    jobs: int | None,
    tick: Tick,
    one: Callable[..., dict[str, Any]] = run_one,
) -> list[Outcome]:
    """The outcome of every run (a variant and a seed); missing runs are trained in parallel.

    Args:
        one: trains a run; see `outcome.run_one`.
    Raises:
        Interrupted: a signal stopped the runs; the same call continues them.
    """
    folders = [study.folder(out, variant, seed) for variant, seed in runs]
    jobs = jobs or max(1, min(len(runs), os.cpu_count() or 1))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        futures: list[Future[dict[str, Any]]] = [
            pool.submit(
                one, study.env, study.algo,
                study.settings_of(variant) | {"seed": seed, "threads": 1},
                study.steps, study.episodes, str(folder),
            )
            for (variant, seed), folder in zip(runs, folders, strict=True)
        ]  # fmt: skip
        try:
            while not all(future.done() for future in futures):
                tick(progress_of(folders), study.steps * len(runs))
                broken = [f for f in futures if f.done() and f.exception() is not None]
                if broken:
                    raise broken[0].exception()  # type: ignore[misc]
                waiting = [f for f in futures if not f.done()]
                wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
        except (KeyboardInterrupt, Interrupted):
            pool.shutdown(wait=False, cancel_futures=True)
            raise Interrupted(out, signal.SIGINT) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [Outcome(**future.result()) for future in futures]


def claim(study: Study, out: Path) -> None:
    """Claims the folder for this study, with as many seeds as are requested this time.

    Raises:
        UsageError: the folder belongs to another study.
    """
    facts = {
        "env": study.env, "algo": study.algo, "steps": study.steps, "settings": study.settings,
        "episodes": study.episodes,
    } | ({"trials": study.trials} if study.trials else {})  # fmt: skip
    facts = json.loads(json.dumps(facts))
    path = out / "study.json"
    if path.exists() and store.read_json(path) != facts:
        raise UsageError(f"{out} holds another comparison; choose another --out")
    make_folder(out)
    store.write_json(path, facts)
