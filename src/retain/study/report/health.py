"""Which metrics left their healthy ranges, and what the monitors of `retain train` said of them.

The ranges and the rules are the monitors' own; the metrics are put through them once more, so that
the page of a run from anywhere shows what its terminal showed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retain.study.report.reading import RunRecord
from retain.train.callbacks.monitors import HEALTHY, Healthy, Monitor

SEVERAL_PASSES = ("approx_kl", "clip_fraction")
"""Metrics whose range is for algorithms that pass over a segment several times, held by a clip
range; after a single pass there is next to nothing to measure."""


def range_of(metric: str, run: RunRecord) -> Healthy | None:
    """The healthy range of a metric in a run; None if it has none there."""
    if metric in SEVERAL_PASSES and run.settings and "clip_range" not in run.settings:
        return None
    return HEALTHY.get(metric)


@dataclass(frozen=True)
class Left:
    """A metric that spent time outside its healthy range.

    Args:
        healthy: the range, in words.
        outside: share of the rows outside, mean over the runs that have the metric.
        runs: number of these runs in which any row was outside.
        of: number of runs that have the metric.
        last: the median of the runs' last values.
    """

    metric: str
    group: int
    healthy: str
    outside: float
    runs: int
    of: int
    last: float


@dataclass(frozen=True)
class Told:
    """A warning of the monitors.

    Args:
        text: the warning in the first run that had it.
        steps: the step of the warning in each run that had it.
        of: number of runs of the group.
    """

    metric: str
    group: int
    text: str
    steps: tuple[float, ...]
    of: int


def left(runs: Sequence[RunRecord], group: int) -> list[Left]:
    """The metrics of a group's runs that were outside their ranges, the worst first."""
    found = []
    for metric, healthy in HEALTHY.items():
        having = [run for run in runs if metric in run.metrics and range_of(metric, run)]
        series = [run.metrics[metric] for run in having]
        series = [values[np.isfinite(values)] for values in series]
        series = [values for values in series if len(values)]
        shares = [float(1 - healthy.holds(values).mean()) for values in series]
        if any(shares):
            last = float(np.median([values[-1] for values in series]))
            worst, bad = float(np.mean(shares)), sum(share > 0 for share in shares)
            found.append(Left(metric, group, str(healthy), worst, bad, len(series), last))
    return sorted(found, key=lambda one: -one.outside)


def told(runs: Sequence[RunRecord], group: int) -> list[Told]:
    """The warnings of a group's runs, those of most runs first."""
    first: dict[int, tuple[str, str]] = {}
    steps: dict[int, list[float]] = {}
    for run in runs:
        for rule, step, metric, line in _warnings(run):
            first.setdefault(rule, (metric, line))
            steps.setdefault(rule, []).append(step)
    found = [Told(*first[rule][:1], group, first[rule][1], tuple(at), len(runs))
             for rule, at in steps.items()]  # fmt: skip
    return sorted(found, key=lambda one: -len(one.steps))


def _warnings(run: RunRecord) -> list[tuple[int, float, str, str]]:
    """Number of the rule, step, metric and text of each warning of a run's monitors."""
    monitor, found = Monitor(), list[tuple[int, float, str, str]]()
    for values in zip(*run.metrics.values(), strict=True):
        row = dict(zip(run.metrics, map(float, values), strict=True))
        before = set(monitor.said)
        try:
            lines = list(monitor.watch(row))
        except KeyError:  # a rule needs a column that the file lacks
            return found
        rules = sorted(monitor.said - before)
        found += [(n, row["step"], *one) for n, one in zip(rules, lines, strict=True)]
    return found
