"""`retain plot DIR...`"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from retain.cli.flags import parse
from retain.train.plot import plot


@dataclass(frozen=True)
class PlotOptions:
    """What `retain plot` reads."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders; those of one environment, algorithm and memory are seeds of one curve."""
    out: Path = Path("learning_curve.png")
    """Picture to write (.png, .pdf or .svg)."""
    metric: tuple[str, ...] = ("return_mean",)
    """Columns of metrics.csv (docs/metrics.md), a panel each."""


def command(arguments: list[str]) -> int:
    """Draws the picture and says where it is."""
    options = parse(
        PlotOptions,
        arguments,
        verb="plot",
        description="Draw learning curves: every run faintly, each group's mean and 95 % interval.",
    )
    print(plot(options.folders, options.out, options.metric))
    return 0
