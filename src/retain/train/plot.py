"""Learning curves as pictures."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.errors import CheckpointError, UsageError, nearest
from retain.train.checkpoint import CONFIG, read_json
from retain.train.files import make_folder, read_bytes, shorten
from retain.train.validation import check_config, fitting

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


DRAWABLE = 1e100
"""Numbers below this can be drawn; NaN and the infinities cannot."""


def read_curve(run: Path, metric: str = "return_mean") -> Curve:
    """Steps and a metric of a run's metrics.csv, without rows where it is not a number.

    Raises:
        CheckpointError: there is no metrics.csv, or it has no such column.
    """
    path = run / "metrics.csv"
    with fitting(path):
        rows = list(csv.DictReader(read_bytes(path).decode().splitlines()))
    names = [str(name) for name in rows[0]] if rows else []
    for name in ("step", metric) if rows else ():
        if name not in names:
            close = nearest(name, names)
            raise CheckpointError(
                f"{path} has no column {name!r}{close} (it has {shorten(', '.join(names), 400)})"
            )
    with fitting(path):
        points = [(float(row["step"]), float(row[metric])) for row in rows]
    points = [point for point in points if all(abs(x) < DRAWABLE for x in point)]
    steps, values = np.array(points or np.empty((0, 2))).reshape(-1, 2).T
    return steps, values


def group_name(run: Path) -> str:
    """Runs of one name are seeds of one curve: environment, algorithm and memory."""
    try:
        facts = read_json(run / CONFIG)
        check_config(facts, str(run / CONFIG))
    except CheckpointError:
        return run.name
    return f"{facts.get('env_name')}  {facts['algo']}  {facts[facts['algo']].get('memory')}"


def plot(
    runs: Sequence[Path],
    out: Path,
    metric: str = "return_mean",
    name: Callable[[Path], str] = group_name,
) -> Path:
    """Draws runs into one picture: every run faintly, each group's mean and 95 % interval.

    Args:
        name: of the group that a run belongs to.
    Raises:
        UsageError: no run was given.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if not runs:
        raise UsageError("no run to plot")
    _check_picture(out)
    groups: dict[str, list[Curve]] = {}
    for run in runs:
        groups.setdefault(name(run), []).append(read_curve(run, metric))
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    for colour, (label, curves) in zip(
        (f"C{index % 10}" for index in range(len(groups))), groups.items(), strict=True
    ):
        curves = [curve for curve in curves if len(curve[0])]
        if not curves:
            continue
        several = len(curves) > 1
        for steps, values in curves:
            axes.plot(
                steps, values, color=colour, alpha=0.25 if several else 1.0,
                linewidth=1 if several else 2, label=None if several else label,
            )  # fmt: skip
        if several:
            grid, mean, half = mean_and_interval(curves)
            axes.plot(grid, mean, color=colour, linewidth=2, label=f"{label}  (n={len(curves)})")
            axes.fill_between(grid, mean - half, mean + half, color=colour, alpha=0.15)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return, mean of the last 100 episodes" if metric == "return_mean" else metric)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:,g}k" if x else "0")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(out)
    plt.close(figure)
    return out


def _check_picture(out: Path) -> None:
    """A picture can be written there.

    Raises:
        UsageError: it cannot; says why.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if out.suffix.removeprefix(".") not in known:
        close = nearest(out.suffix.removeprefix("."), known)
        raise UsageError(
            f"out is {shorten(out)}{close} (expected a name that ends in .png, .pdf or .svg)"
        )
    if out.is_dir():
        raise UsageError(f"out is {shorten(out)}, a folder (expected the name of a picture)")
    make_folder(out.parent)


def mean_and_interval(
    curves: Sequence[Curve],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Several curves on one grid: steps, mean, and the half-width of Student's 95 % interval."""
    first = max(steps[0] for steps, _ in curves)
    last = min(steps[-1] for steps, _ in curves)
    grid = np.linspace(first, last, 200)
    values = np.stack([np.interp(grid, steps, ys) for steps, ys in curves])
    n = len(curves)
    spread = values.std(0, ddof=1) / math.sqrt(n)
    return grid, values.mean(0), _STUDENT.get(n - 1, 1.96) * spread


_STUDENT = {
    1: 12.71,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
}
"""97.5 % quantiles by degrees of freedom."""
