"""Runs a sweep from its first trial to its comparison with the default settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.envs.make import make
from retain.errors import UsageError
from retain.memory import Memory, memory_name
from retain.ranges import Range
from retain.study.compare import Found, compare
from retain.study.launcher import Launcher, Tick, in_silence
from retain.study.processes import Processes
from retain.study.space import Base, read_search
from retain.study.statistics import Interval
from retain.study.sweep import Choice, Fresh, Pruner, Sweep
from retain.study.verdict import Evidence, Verdict, judge
from retain.train.files import make_folder
from retain.train.lock import held
from retain.train.misuse import explained
from retain.train.preset_file import write_preset

if TYPE_CHECKING:
    from retain.study.search import Told
    from retain.study.trials import TrialResult


@dataclass(frozen=True)
class Compared:
    """The best settings against the default ones, on fresh seeds."""

    study: Fresh
    found: Found
    folder: Path

    @property
    def verdict(self) -> Verdict:
        """The verdict in words."""
        return judge(self.study, self.found)

    @property
    def gain(self) -> Interval:
        """Difference of the interquartile means, with its 95 % interval."""
        return Evidence(self.study, self.found).gap


@dataclass(frozen=True)
class Swept:
    """What a sweep found.

    Args:
        trials: the trials, by number.
        best: the trial with the highest value.
        preset: file with the best settings of each memory, for `--preset`.
        compared: None if no comparison was asked for, or the default settings were the best.
    """

    sweep: Sweep
    trials: "Sequence[TrialResult]"
    best: "TrialResult"
    preset: Path
    compared: Compared | None

    @property
    def settings(self) -> dict[str, Any]:
        """The best trial's settings that differ from the default ones, and its memory."""
        return {"memory": self.best.memory, **self.sweep.changes(self.best)}


@explained('retain.sweep("ppo", env="CartPoleNoVel-v1", memory=["lstm"], trials=40)')
def sweep(
    algo: str,
    *,
    env: str,
    memory: str | type[Memory] | Sequence[str | type[Memory]] = "none",
    steps: int = 100_000,
    trials: int = 40,
    seeds: int = 3,
    fresh_seeds: int = 5,
    pruner: Pruner = "median",
    search: Mapping[str, Range | str] | None = None,
    settings: Mapping[str, Any] | None = None,
    episodes: int = 20,
    out: str | Path = "runs/sweep",
    study: str | Path | None = None,
    jobs: int | None = None,
    launcher: Launcher | None = None,
) -> Swept:
    """Searches settings, and compares the best with the default ones on seeds that no trial saw.

    The same call goes on where it was stopped or killed; several processes may make it at once, and
    share the trials. Runs are processes that import the calling script, so that a script needs its
    `if __name__ == "__main__":`. See `Sweep` for the arguments that describe the sweep.

    Args:
        search: ranges by setting, as `retain.ranges` or as texts such as "log:1e-5:1e-2".
        out: folder for the runs, the preset and the report.
        study: Optuna's storage, a .db (SQLite) or .journal file; in `out` by default.
        jobs: number of runs at the same time; None means one per core.
        launcher: executes the runs instead of local processes.
    Raises:
        UsageError: the sweep is impossible, or the storage holds another one.
        Interrupted: a signal stopped the sweep.
    """
    several = isinstance(memory, Sequence) and not isinstance(memory, str)
    names = tuple(memory_name(one) for one in (memory if several else [memory]))  # type: ignore[union-attr]
    ranges = ranges_of(Base(algo, env, settings or {}), names, search or {})
    described = Sweep(
        algo, env, names, steps, trials, seeds, fresh_seeds, dict(settings or {}), ranges, pruner,
        episodes,
    )  # fmt: skip
    out = Path(out)
    run = Running(described, out, Path(study) if study is not None else out / "study.db")
    run.search(launcher or Processes(jobs))
    return run.finish(launcher or Processes(jobs))


def ranges_of(
    base: Base, memories: Sequence[str], search: Mapping[str, Range | str]
) -> dict[str, Range]:
    """Ranges by setting, some of them read from texts.

    Raises:
        UsageError: see `read_search`.
    """
    texts = [f"{name}={where}" for name, where in search.items() if isinstance(where, str)]
    ready = {name: where for name, where in search.items() if isinstance(where, Range)}
    return ready | read_search(base, memories, texts)


class Running:
    """A sweep in its folder.

    Args:
        file: Optuna's storage.
    Raises:
        UsageError: see `sweep`.
    """

    def __init__(self, described: Sweep, out: Path, file: Path) -> None:
        if find_spec("optuna") is None:
            raise UsageError(
                "a sweep needs an extra that is not installed: pip install 'retain[sweep]'"
            )
        described.check()
        make(described.env, 1).close()  # an environment that cannot be made is told here, once
        make_folder(out)
        from retain.study.trials import Trials

        self.sweep, self.out = described, out
        self.trials = Trials(
            file,
            out / "trials",
            facts=described.facts(),
            space=described.space,
            defaults=described.defaults(),
            pruner=described.pruner,
            trials=described.trials,
        )

    def search(
        self, launcher: Launcher, *, tick: Tick = in_silence, told: "Told | None" = None
    ) -> None:
        """Trains the missing trials.

        Raises:
            Interrupted: a signal stopped the search; the same call continues it.
        """
        from retain.study.search import search

        search(
            self.sweep, self.trials, self.out, launcher, tick=tick, told=told or (lambda _: None)
        )

    def finish(self, launcher: Launcher, *, tick: Tick = in_silence) -> Swept:
        """Writes the preset, compares it with the default settings, and writes the report.

        Raises:
            UsageError: no trial has finished.
            Interrupted: a signal stopped the comparison; the same call continues it.
        """
        from retain.study.sweep_report import write_sweep_report

        trials = self.trials.results()
        best = best_of(trials)
        path = self.out / "best.toml"
        memories = {trial.memory for trial in trials if trial.value is not None}
        tables = {
            memory: self.sweep.preset(best_of([t for t in trials if t.memory == memory]))
            for memory in self.sweep.memory
            if memory in memories
        }
        compared = None
        if self.sweep.fresh_seeds and not best.default:
            compared = self._compare(best, launcher, tick)
        swept = Swept(self.sweep, trials, best, path, compared)
        write_preset(path, self.sweep.env, tables, self._title(best))
        write_sweep_report(swept, self.out)
        return swept

    def _compare(self, best: Choice, launcher: Launcher, tick: Tick) -> Compared:
        folder = self.out / f"compare-{best.number:04d}"
        study = self.sweep.fresh(best)
        make_folder(folder)
        with held(folder):  # of several processes, the others read what the first has measured
            return Compared(study, compare(study, folder, launcher=launcher, tick=tick), folder)

    def _title(self, best: "TrialResult") -> str:
        sweep = self.sweep
        return (
            f"{sweep.algo} on {sweep.env}: the best settings of each memory in "
            f"{sweep.trials} trials\nof {sweep.steps:,} steps, {sweep.seeds} seeds each. The best "
            f"of all is trial {best.number}, with memory {best.memory}."
        )


def best_of(trials: "Sequence[TrialResult]") -> "TrialResult":
    """The trial with the highest value, the first of equals.

    Raises:
        UsageError: none has a value; the line says why the first one has none.
    """
    found = [trial for trial in trials if trial.value is not None]
    if not found:
        raise UsageError(f"no trial has finished: {trials[0].reason if trials else 'none began'}")
    return max(found, key=lambda trial: (trial.value, -trial.number))
