"""The numbers behind the page's figures, few enough for a browser.

A curve of more rows than its share of `POINTS` is drawn by the lowest and the highest row of each
stretch, so that no spike is lost.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retain.study.report.finding import Collection, Labelled
from retain.study.report.health import range_of
from retain.study.report.reading import RunRecord
from retain.train.callbacks.csv import TIMING
from retain.train.callbacks.monitors import HEALTHY, RULES
from retain.train.plot import LABELS, infos_of, mean_and_interval, window_full

POINTS = 12_000
"""Points of all curves in a figure."""
FEWEST = 60
"""Points of a curve, however many curves there are."""
MARKS = 4_000
"""Episodes drawn in a figure."""
MOST_PANELS = 60

JSON: TypeAlias = dict[str, Any]
Array: TypeAlias = NDArray[np.float64]

WINDOWED = ("return_mean", "length_mean")
"""Means over recent episodes, whose first values say nothing."""
WATCHED = tuple(dict.fromkeys((*HEALTHY, *(rule.metric for rule in RULES))))
"""The metrics that the monitors know."""
AXES = ("step", "episodes", "gradient_steps", *TIMING)
"""Columns that count or time; only the speed is drawn."""


def payload(collection: Collection) -> JSON:
    """Everything that the page's script draws, as JSON values."""
    runs = [one.run for one in collection.runs]
    return {
        "runs": [
            {"name": one.name, "group": one.group, "x": _axes(one.run)} for one in collection.runs
        ],
        "groups": [
            {"name": group.name, "colour": group.colour, "task": group.task}
            for group in collection.groups
        ],
        "panels": [*_curves(collection), *_episodes(collection)] if runs else [],
    }


def _axes(run: RunRecord) -> dict[str, list[float | None]]:
    """The columns that may be a horizontal axis."""
    return {name: rounded(run.metrics[name]) for name in ("step", "seconds") if name in run.metrics}


def rounded(values: Array) -> list[float | None]:
    """Numbers in five digits; NaN, which JSON does not have, becomes null."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]


def thinned(values: Array, most: int) -> NDArray[np.intp]:
    """Indices of at most about `most` values: the lowest and highest of each stretch."""
    if len(values) <= most:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), max(1, most // 2))
    ends = [(part[values[part].argmin()], part[values[part].argmax()]) for part in stretches]
    return np.unique([0, *(index for pair in ends for index in pair), len(values) - 1])


def curve(run: RunRecord, metric: str) -> tuple[NDArray[np.intp], Array]:
    """The rows in which a metric is a number, and its values there."""
    values = run.metrics[metric]
    keep = np.isfinite(values)
    if "episodes" in run.metrics and metric in (*WINDOWED, *infos_of(run.facts, run.metrics)):
        with suppress(IndexError):  # no row says how many episodes there were
            full = window_full(run.metrics["step"], run.metrics["episodes"])
            keep &= run.metrics["step"] >= full
    rows = np.flatnonzero(keep)
    return rows, values[rows]


def sections_of(collection: Collection) -> dict[str, list[str]]:
    """The metrics of each section: what was learned, what the monitors know, and the rest."""
    names = dict.fromkeys(name for one in collection.runs for name in one.run.metrics)
    infos = dict.fromkeys(
        name for one in collection.runs for name in infos_of(one.run.facts, one.run.metrics)
    )
    learned = [name for name in ("return_mean", *infos, "length_mean") if name in names]
    inner = [n for n in names if n not in (*AXES, *learned) and n[:5] != "eval_"]
    rest = [n for n in inner if n not in WATCHED]
    rest += [n for n in ("steps_per_second",) if n in names]
    return {"curves": learned, "monitors": [n for n in WATCHED if n in inner], "others": rest}


def constants(collection: Collection) -> dict[str, float]:
    """The metrics besides those that say what was learned that had one value in all rows of all
    runs: no figure need show them."""
    found, sections = {}, sections_of(collection)
    for metric in [*sections["monitors"], *sections["others"]]:
        runs = [one.run for one in collection.runs if metric in one.run.metrics]
        values = np.unique(np.concatenate([curve(run, metric)[1] for run in runs]))
        if len(values) == 1 and sum(len(run.metrics[metric]) for run in runs) > len(runs):
            found[metric] = float(values[0])
    return found


def _curves(collection: Collection) -> Iterator[JSON]:
    left_out = constants(collection)
    metrics = [
        (section, metric)
        for section, names in sections_of(collection).items()
        for metric in names
        if metric not in left_out
    ]
    for section, metric in metrics[:MOST_PANELS]:
        having = [
            (n, one.run) for n, one in enumerate(collection.runs) if metric in one.run.metrics
        ]
        most = max(FEWEST, POINTS // len(having))
        columns = [(metric, False)] + [(f"eval_{metric}", True)] * (section == "curves")
        curves = [
            _drawn(number, run, column, most) | {"dash": dash}
            for column, dash in columns
            for number, run in having
            if column in run.metrics
        ]
        curves = [one for one in curves if one["y"]]
        healthy = next((one for _, run in having if (one := range_of(metric, run))), None)
        if curves:
            yield {
                "metric": metric,
                "section": section,
                "label": LABELS.get(metric, metric),
                "healthy": None if healthy is None else [healthy.low, healthy.high],
                "range": None if healthy is None else str(healthy),
                "curves": curves,
                "means": list(_means(collection, metric)) if section == "curves" else [],
            }


def _drawn(number: int, run: RunRecord, metric: str, most: int) -> JSON:
    rows, values = curve(run, metric)
    kept = thinned(values, most)
    whole = len(kept) == len(run.metrics[metric])
    return {
        "run": number,
        "rows": None if whole else rows[kept].tolist(),
        "y": rounded(values[kept]),
    }


def _means(collection: Collection, metric: str) -> Iterator[JSON]:
    """Each group's mean and its 95 % interval, over steps and over seconds."""
    for number in range(len(collection.groups)):
        for column, dash in ((metric, False), (f"eval_{metric}", True)):
            members = [one for one in collection.members(number) if column in one.run.metrics]
            axes = {}
            for axis in ("step", "seconds"):
                found = _mean(members, column, axis)
                if found is not None:
                    grid, mean, half = map(rounded, found)
                    axes[axis] = {"x": grid, "y": mean, "half": half}
            if axes:
                yield {"group": number, "dash": dash, "n": len(members), "axes": axes}


def _mean(members: Sequence[Labelled], metric: str, axis: str) -> tuple[Array, Array, Array] | None:
    """The mean curve; None without two runs that share a part of the axis."""
    curves = []
    for one in members:
        rows, values = curve(one.run, metric)
        if axis in one.run.metrics and len(rows):
            curves.append((one.run.metrics[axis][rows], values))
    if len(curves) < 2 or max(x[0] for x, _ in curves) >= min(x[-1] for x, _ in curves):
        return None
    return mean_and_interval(curves)


def _episodes(collection: Collection) -> Iterator[JSON]:
    having = [(n, one.run) for n, one in enumerate(collection.runs) if one.run.episodes]
    for metric, label in (("ret", "return of an episode"), ("length", "length in steps")):
        curves = []
        for number, run in having:
            assert run.episodes is not None
            every = -(-len(run.episodes.step) // max(10, MARKS // len(having)))
            x, y = run.episodes.step[::every], getattr(run.episodes, metric)[::every]
            axes = {"step": rounded(x)}
            if {"step", "seconds"} <= run.metrics.keys():
                seconds = np.interp(x, run.metrics["step"], run.metrics["seconds"])
                axes["seconds"] = rounded(seconds)
            curves.append({"run": number, "x": axes, "y": rounded(y)})
        if curves:
            yield {
                "metric": f"episode_{'return' if metric == 'ret' else metric}",
                "section": "episodes", "label": label, "healthy": None, "range": None,
                "curves": curves, "means": [], "marks": True,
            }  # fmt: skip
