"""Learning curves as pictures."""

import csv
import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retain.data.episodes import RECENT, SUCCESS
from retain.errors import CheckpointError, UsageError, nearest
from retain.train.checkpoint import CONFIG, read_json
from retain.train.files import make_folder, read_bytes, shorten
from retain.train.validation import check_config, fitting

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


DRAWABLE = 1e100
"""Limit below which numbers can be drawn; NaN and the infinities cannot."""
FEW = 3
"""Groups whose legend has room inside the axes; with more it stands beside them."""


def read_curve(run: Path, metric: str = "return_mean") -> Curve:
    """Steps and a metric from a run's metrics.csv, without rows in which it is not a number.

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


def columns(run: Path) -> list[str]:
    """The columns of a run's metrics.csv."""
    path = run / "metrics.csv"
    if not path.exists():
        return []
    with fitting(path):
        return next(csv.reader(read_bytes(path).decode().splitlines()), [])


def group_name(run: Path) -> str:
    """A run's group: environment, algorithm and memory; runs of one group are seeds of one
    curve."""
    facts = settings_of(run)
    if not facts:
        return run.name
    return f"{facts.get('env_name')}  {facts['algo']}  {memory_of(run)}"


def settings_of(run: Path) -> dict[str, Any]:
    """A run's own settings; empty if there is no config.json."""
    try:
        facts = read_json(run / CONFIG)
        check_config(facts, str(run / CONFIG))
    except CheckpointError:
        return {}
    return facts


def memory_of(run: Path) -> str:
    """The memory of a run's agent; empty if it is unknown."""
    facts = settings_of(run)
    return str(facts[facts["algo"]].get("memory", "")) if facts else ""


def colours(memories: Sequence[str]) -> list[str]:
    """A colour for each curve: a memory has the same colour in every picture, if the curves differ
    in their memories; otherwise the colours repeat in order."""
    if len(set(memories)) < len(memories) or "" in memories:
        return [f"C{index % 10}" for index in range(len(memories))]
    taken = {_OWN[memory] for memory in memories if memory in _OWN}
    chosen = []
    for memory in memories:
        start = zlib.crc32(memory.encode())
        free = (_OTHERS[(start + k) % len(_OTHERS)] for k in range(len(_OTHERS)))
        colour = _OWN.get(memory) or next((c for c in free if c not in taken), _OTHERS[0])
        taken.add(colour)
        chosen.append(colour)
    return chosen


_OWN = {
    "none": "#7f7f7f", "lstm": "#1f77b4", "gru": "#ff7f0e", "window": "#2ca02c",
    "mingru": "#d62728", "lru": "#9467bd", "attention": "#8c564b", "delta": "#e377c2",
}  # fmt: skip
_OTHERS = ("#17becf", "#bcbd22", "#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173", "#3182bd")
"""Colours for users' memories, chosen by name."""


def settled(run: Path, curve: Curve) -> Curve:
    """A curve of means over recent episodes, without the part before the window is full; for a run
    of few episodes, without the first quarter."""
    steps, episodes = read_curve(run, "episodes")
    if not len(steps):
        return curve
    keep = curve[0] >= window_full(steps, episodes)
    return curve[0][keep], curve[1][keep]


def window_full(steps: NDArray[np.float64], episodes: NDArray[np.float64]) -> float:
    """The step from which `settled` keeps a curve, given the finished episodes at each step."""
    return float(steps[episodes >= min(RECENT, episodes[-1] / 4)][0])


def is_window_mean(run: Path, metric: str) -> bool:
    """Whether a metric is a mean over recent episodes."""
    return metric in ("return_mean", "length_mean", *info_metrics(run))


def info_metrics(run: Path) -> list[str]:
    """The columns of a run that come from its episodes' last infos."""
    return infos_of(settings_of(run), columns(run))


def infos_of(facts: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Those of some columns that come from episodes' last infos, given the run's settings."""
    named = facts.get("run", {}).get("log_info", ())
    return [name for name in dict.fromkeys((SUCCESS, *named)) if name in names]


def plot_run(run: Path) -> Path:
    """Draws a run's own picture: its return, and a panel for each metric from its episodes'
    infos."""
    return plot([run], run / "learning_curve.png", ("return_mean", *info_metrics(run)))


def plot(
    runs: Sequence[Path],
    out: Path,
    metric: str | Sequence[str] = "return_mean",
    name: Callable[[Path], str] = group_name,
) -> Path:
    """Draws runs into one picture: single runs faintly, each group's mean and 95 % interval.

    Args:
        metric: one metric, or one for each panel.
        name: gives the name of a run's group.
    Raises:
        UsageError: no run was given.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if not runs:
        raise UsageError("no run to plot")
    _check_picture(out)
    metrics = (metric,) if isinstance(metric, str) else tuple(metric)
    groups: dict[str, list[Path]] = {}
    for run in runs:
        groups.setdefault(name(run), []).append(run)
    palette = colours([memory_of(members[0]) for members in groups.values()])
    figure, rows = plt.subplots(
        len(metrics), figsize=(8, 2 + 2.5 * len(metrics)), dpi=120, squeeze=False, sharex=True
    )
    for (axes,), shown in zip(rows, metrics, strict=True):
        for colour, (label, members) in zip(palette, groups.items(), strict=True):
            draw_group(axes, label, members, shown, colour)
        axes.set_ylabel(LABELS.get(shown, shown))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:,g}k" if x else "0")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if rows[0][0].get_legend_handles_labels()[0]:
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        rows[0][0].legend(frameon=False, **(beside if len(groups) > FEW else {}))
    rows[-1][0].set_xlabel("environment steps")
    figure.tight_layout()
    figure.savefig(out)
    plt.close(figure)
    return out


def _check_picture(out: Path) -> None:
    """Checks that a picture can be written to `out`.

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


LABELS = {
    "return_mean": "return, mean of the last 100 episodes",
    "length_mean": "steps, mean of the last 100 episodes",
    "is_success": "share of the last 100 episodes with success",
}


def draw_group(axes: Any, label: str, runs: Sequence[Path], metric: str, colour: str) -> None:
    """Draws a group's runs and their mean; evaluations during training are dashed."""
    kinds = [(metric, "-", label)]
    if all(f"eval_{metric}" in columns(run) for run in runs):
        kinds.append((f"eval_{metric}", "--", f"{label}  evaluated"))
    for column, style, text in kinds:
        curves = []
        for run in runs:
            curve = read_curve(run, column)
            curves.append(settled(run, curve) if is_window_mean(run, column) else curve)
        curves = [curve for curve in curves if len(curve[0])]
        several = len(curves) > 1
        for steps, values in curves:
            axes.plot(
                steps, values, style, color=colour, alpha=0.25 if several else 1.0,
                linewidth=1 if several else 2, label=None if several else text,
            )  # fmt: skip
        if several:
            grid, mean, half = mean_and_interval(curves)
            axes.plot(
                grid, mean, style, color=colour, linewidth=2, label=f"{text}  (n={len(curves)})"
            )
            axes.fill_between(grid, mean - half, mean + half, color=colour, alpha=0.15)


def mean_and_interval(
    curves: Sequence[Curve],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Several curves on one grid: steps, mean, and the half-width of Student's 95 % interval."""
    first = max(steps[0] for steps, _ in curves)
    last = min(steps[-1] for steps, _ in curves)
    grid = np.linspace(first, last, 200)
    values = np.stack([np.interp(grid, steps, ys) for steps, ys in curves])
    half = np.apply_along_axis(half_width, 0, values)
    return grid, values.mean(0), half


def half_width(values: ArrayLike) -> float:
    """Half the width of Student's 95 % interval of a mean."""
    array = np.asarray(values, np.float64)
    n = len(array)
    return float(_STUDENT.get(n - 1, 1.96) * array.std(ddof=1) / math.sqrt(n))


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
