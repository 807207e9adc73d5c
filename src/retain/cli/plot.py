"""`retain plot DIR...`"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from retain.cli.flags import parse
from retain.train.plot import plot


@dataclass(frozen=True)
class PlotOptions:
    """The options of `retain plot`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders; runs with the same environment, algorithm and memory are seeds of one curve."""
    out: Path = Path("learning_curve.png")
    """Picture file to write (.png, .pdf or .svg)."""
    metric: tuple[str, ...] = ("return_mean",)
    """Columns of metrics.csv (docs/metrics.md), one panel each."""


def command(arguments: list[str]) -> int:
    """Draws the picture and prints where it is."""
    options = parse(
        PlotOptions,
        arguments,
        verb="plot",
        description="Draw learning curves: single runs faintly, group means with 95 % intervals.",
    )
    print(plot(options.folders, options.out, options.metric))
    return 0
