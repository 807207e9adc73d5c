"""Trains one setting on several seeds in parallel, and summarises them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retain.errors import UsageError
from retain.study.compare import Study, Variant, compare
from retain.study.launcher import Launcher, Tick
from retain.study.outcome import Outcome
from retain.train.plot import half_width, plot
from retain.train.presets import AUTO

ALL = Variant("runs", {})


@dataclass(frozen=True)
class Seeds(Study):
    """A study of one variant.

    Args:
        preset: the preset that the settings override.
    """

    preset: str = AUTO

    def folder(self, out: Path, variant: Variant, seed: int) -> Path:
        """The run folder of a seed."""
        return out / f"seed{seed}"

    def check(self) -> None:
        """Refuses an impossible set of seeds; making an agent checks the settings anyway.

        Raises:
            UsageError: there are fewer than two seeds, or the settings contain a seed.
        """
        if self.seeds < 2:
            raise UsageError(f"seeds is {self.seeds} (expected at least 2)")
        if "seed" in self.settings:
            raise UsageError(f"seeds 1 to {self.seeds} are trained: leave seed out")

    def settings_of(self, variant: Variant) -> dict[str, Any]:
        """The settings that every agent is made with."""
        return self.settings | {"preset": self.preset}


def train_seeds(
    study: Seeds,
    out: Path,
    *,
    jobs: int | None = None,
    launcher: Launcher | None = None,
    tick: Tick,
) -> list[Outcome]:
    """Trains a run for each seed in its own folder, and draws all of them into one picture.

    Args:
        jobs, launcher, tick: see `compare`.
    Raises:
        UsageError: see `Seeds.check`, or the folder holds other runs.
        Interrupted: a signal stopped the runs; the same call continues them.
    """
    outcomes = compare(study, out, jobs=jobs, launcher=launcher, tick=tick)[ALL.name]
    folders = [study.folder(out, ALL, seed) for seed in range(1, study.seeds + 1)]
    plot(folders, out / "learning_curve.png")
    return outcomes


def seeds_table(outcomes: Sequence[Outcome]) -> list[str]:
    """Each seed and their mean with Student's 95 % interval, as Markdown."""
    lines = ["| seed | evaluation | training, last tenth | whole run |", "|---|---|---|---|"]
    names = ("evaluation", "final", "efficiency")
    for seed, outcome in enumerate(outcomes, 1):
        cells = (f"{getattr(outcome, name):.1f}" for name in names)
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    cells = (_mean([getattr(outcome, name) for outcome in outcomes]) for name in names)
    return [*lines, f"| mean | {' | '.join(cells)} |"]


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.1f} ± {half_width(values):.1f}"
