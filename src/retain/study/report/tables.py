"""The page's tables, as plain values; the template escapes and lays them out."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retain.data.episodes import RECENT
from retain.study.memory_length import WHOLE, effective_length
from retain.study.report.finding import Collection
from retain.study.report.health import left, told
from retain.study.report.reading import RunRecord
from retain.study.statistics import iqm_difference
from retain.train.files import shorten

NOTHING = "\u2013"
"""A cell without a number."""
SMALLEST = 5
"""Episodes of each run over which a table of recent episodes takes means, at least."""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        tasks: the environment of each row, for the page's choice of one; empty if rows have none.
        numeric: whether all columns but the first hold numbers.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    tasks: tuple[str, ...] = ()
    numeric: bool = False

    def __bool__(self) -> bool:
        """Whether there is a row."""
        return bool(self.rows)


def show(value: Any) -> str:
    """A value as a cell: numbers short, lists without brackets."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "off"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return (
            NOTHING
            if math.isnan(value)
            else f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
        )
    if isinstance(value, list | tuple):
        return shorten(", ".join(map(show, value)), 120) or "none"
    return shorten(json.dumps(value) if isinstance(value, Mapping) else value, 120)


def runs_table(collection: Collection) -> Table:
    """One row for each run: what it is, how far it came, and its last return."""
    rows = []
    for one in collection.runs:
        run = one.run
        what = [one.name, run.env, run.algo, run.memory, show(run.seed)]
        last = {name: _last(run, name) for name in ("step", "episodes", "return_mean", "seconds")}
        planned = run.facts.get("steps")
        done = _whole(last["step"])
        if planned and not last["step"] >= planned:
            done += f" of {show(planned)}"
        came = [done, _whole(last["episodes"]), show(last["return_mean"]), _time(last["seconds"])]
        rows.append(tuple(cell or NOTHING for cell in [*what, *came]))
    head = ("run", "environment", "algorithm", "memory", "seed", "steps", "episodes", "return",
            "time")  # fmt: skip
    return Table("Runs", head, tuple(rows), tuple(one.run.env for one in collection.runs))


def _last(run: RunRecord, metric: str) -> float:
    """The last number of a column; NaN if there is none."""
    values = run.metrics.get(metric, np.empty(0))
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else math.nan


def _whole(value: float) -> str:
    return show(int(value)) if math.isfinite(value) else NOTHING


def _time(seconds: float) -> str:
    if not 0 <= seconds < 1e9:
        return NOTHING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def left_table(collection: Collection) -> Table:
    """The metrics outside their healthy ranges."""
    found = [
        one
        for number in range(len(collection.groups))
        for one in left([m.run for m in collection.members(number)], number)
    ]
    rows = tuple(
        (one.metric, collection.groups[one.group].name, one.healthy, f"{one.outside:.0%}",
         f"{one.runs} of {one.of}", show(one.last))
        for one in sorted(found, key=lambda one: -one.outside)
    )  # fmt: skip
    tasks = tuple(
        collection.groups[one.group].task for one in sorted(found, key=lambda o: -o.outside)
    )
    head = ("metric", "runs", "healthy", "rows outside", "runs with any", "last value")
    return Table("What left its healthy range", head, rows, tasks)


def told_table(collection: Collection) -> Table:
    """The warnings of the monitors."""
    rows, tasks = [], []
    for number, group in enumerate(collection.groups):
        for one in told([m.run for m in collection.members(number)], number):
            first = show(int(min(one.steps)))
            rows.append((group.name, f"{len(one.steps)} of {one.of}", first, one.text))
            tasks.append(group.task)
    head = ("runs", "warned", "first at step", "warning")
    return Table("What the monitors said", head, tuple(rows), tuple(tasks))


def episodes_table(collection: Collection) -> Table:
    """Returns and lengths of each group's last training episodes."""
    rows, tasks = [], []
    for number, group in enumerate(collection.groups):
        having = [m.run.episodes for m in collection.members(number) if m.run.episodes]
        if not having:
            continue
        late = max(SMALLEST, RECENT // len(having))
        returns = np.concatenate([one.ret[-late:] for one in having])
        lengths = np.concatenate([one.length[-late:] for one in having])
        rows.append(
            (group.name, show(sum(one.total for one in having)), show(float(returns.mean())),
             show(float(returns.min())), show(float(np.median(returns))),
             show(float(returns.max())), show(float(lengths.mean())), show(float(lengths.max())))
        )  # fmt: skip
        tasks.append(group.task)
    head = ("runs", "episodes", "mean return", "lowest", "median", "highest", "mean length",
            "longest")  # fmt: skip
    caption = f"Training episodes, the last {RECENT} or so of each"
    return Table(caption, head, tuple(rows), tuple(tasks), numeric=True)


def evaluations_table(collection: Collection) -> Table:
    """Evaluations while training: each run's last and best."""
    rows, tasks = [], []
    for one in collection.runs:
        metrics = one.run.metrics
        means = metrics.get("eval_return_mean")
        at = [] if means is None else np.flatnonzero(np.isfinite(means)).tolist()
        if means is None or not at:
            continue
        best = max(at, key=lambda index: means[index])
        spread, length = (
            metrics.get(f"eval_{n}", means * math.nan) for n in ("return_std", "length_mean")
        )
        rows.append(
            (one.name, show(len(at)), show(float(means[at[-1]])), show(float(spread[at[-1]])),
             show(float(length[at[-1]])), show(float(means[best])),
             show(int(metrics["step"][best])))
        )  # fmt: skip
        tasks.append(one.run.env)
    head = ("run", "evaluations", "last return", "its spread", "its length", "best return",
            "at step")  # fmt: skip
    return Table("Evaluations while training", head, tuple(rows), tuple(tasks), numeric=True)


def finals_table(collection: Collection) -> Table:
    """What a comparison measured of the final agents."""
    having = [one for one in collection.runs if one.run.outcome]
    rows = tuple(
        (one.name, *(show(one.run.outcome.get(name, math.nan))
                     for name in ("evaluation", "final", "random")))
        for one in having
    )  # fmt: skip
    head = ("run", "return, most probable actions", "return, last tenth of training",
            "random actions")  # fmt: skip
    tasks = tuple(one.run.env for one in having)
    return Table("Final agents", head, rows, tasks, numeric=True)


def memory_table(collection: Collection) -> Table:
    """Returns with the memory cleared at intervals, and the effective length."""
    rows, tasks, columns = [], [], dict[str, None]()
    found: list[tuple[int, list[dict[str, Any]]]] = []
    for number in range(len(collection.groups)):
        outcomes = [m.run.outcome for m in collection.members(number)]
        measured = [one for one in outcomes if {"1", WHOLE} <= one.get("cleared", {}).keys()]
        if measured:
            found.append((number, measured))
            columns |= dict.fromkeys(measured[0]["cleared"])
    for number, measured in found:
        names = [k for k in columns if all(k in one["cleared"] for one in measured)]
        means = {k: float(np.mean([one["cleared"][k] for one in measured])) for k in names}
        length = _length(means) if _learned(measured) else "not given: it did not learn"
        cells = [show(means[k]) if k in means else "" for k in columns]
        rows.append((collection.groups[number].name, *cells, length))
        tasks.append(collection.groups[number].task)
    shown = [k if k == WHOLE else f"every {k}" for k in columns]
    return Table(
        "Return with the memory cleared at these intervals, in steps",
        ("runs", *shown, "effective length"), tuple(rows), tuple(tasks), numeric=True,
    )  # fmt: skip


def _learned(outcomes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether agents beat random actions by more than the interval; True if nobody measured it."""
    pairs = [(one["evaluation"], one.get("random", math.nan)) for one in outcomes]
    if not all(math.isfinite(value) for pair in pairs for value in pair):
        return True
    values, randoms = zip(*pairs, strict=True)
    return iqm_difference(values, randoms).low > 0


def _length(means: Mapping[str, float]) -> str:
    try:
        length = effective_length(means)
    except ValueError:  # an interval that is no number
        return NOTHING
    return "makes no difference" if length is None else f"{length:.1f} steps"
