"""Watches a run's metrics and reports, once each, when one leaves its healthy range."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retain.train.callbacks.base import Callback, Row, RowLogged
from retain.train.callbacks.registry import register_callback
from retain.train.contract import State

PARITY = 1e-3
"""Limit on the first minibatch's |log ratio|, above which acting and training disagree."""


@dataclass(frozen=True)
class Healthy:
    """The range of a metric in runs that go well: a rule of thumb, not a limit."""

    low: float | None = None
    high: float | None = None

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Whether each value lies in the range; the bounds do."""
        array = np.asarray(values, np.float64)
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return np.asarray((array >= low) & (array <= high))

    def __str__(self) -> str:
        """As docs/metrics.md writes it."""
        low, high = ("" if bound is None else _short(bound) for bound in (self.low, self.high))
        if not low:
            return f"below {high}"
        return f"{low} to {high}" if high else f"above {low}"


def _short(bound: float) -> str:
    return f"{bound:.0e}".replace("e-0", "e-") if 0 < bound < 1e-3 else f"{bound:g}"


HEALTHY = {
    "approx_kl": Healthy(0.003, 0.03),
    "clip_fraction": Healthy(0.02, 0.3),
    "value_clip_fraction": Healthy(high=0.3),
    "max_log_ratio": Healthy(high=3),
    "first_log_ratio": Healthy(high=1e-5),
    "first_value_gap": Healthy(high=1e-4),
    "explained_variance": Healthy(low=0.5),
    "memory_gradient": Healthy(0.05, 0.9),
    "memory_saturation": Healthy(high=0.3),
    "carry_drift": Healthy(high=2),
    "masked_fraction": Healthy(high=0.7),
}
"""The healthy range of each metric that has one; docs/metrics.md says the same."""


@dataclass(frozen=True)
class Rule:
    """A metric's state that must not last long."""

    metric: str
    """The metric's name; also its section in docs/metrics.md."""
    bad: Callable[[Row, Row], bool]
    """Whether the metric is bad, given the row and the run's first row with a return."""
    rows: int
    """Number of consecutive bad rows before the rule reports."""
    text: str
    """The likely cause; `{}` stands for the value."""


RULES = (
    Rule("first_log_ratio", lambda row, _: row["first_log_ratio"] > PARITY, 1,
         "acting and training disagree: |log ratio| {:.2g} before an update's first step"),
    Rule("first_value_gap",
         lambda row, _: row["first_value_gap"] > PARITY * max(1.0, abs(row["q_mean"])), 1,
         "acting and training disagree: values differ by {:.2g} before an update's first step"),
    Rule("approx_kl", lambda row, _: row["approx_kl"] > 0.2, 5,
         "KL {:.2g}: the policy's steps are too large; lower learning_rate or epochs"),
    Rule("approx_kl", lambda row, first: row["approx_kl"] < 0.003
         and row["entropy"] > first["entropy"], 30,
         "KL {:.2g} and entropy above its first value: hardly anything is learned; "
         "raise learning_rate or lower entropy_coef"),
    Rule("clip_fraction", lambda row, _: row["clip_fraction"] > 0.6, 5,
         "clip fraction {:.2g}: most steps leave the clip range; lower learning_rate or epochs"),
    Rule("value_clip_fraction", lambda row, _: row["value_clip_fraction"] > 0.6, 10,
         "value clip fraction {:.2g}: value_clip, in units of return, holds the critic back"),
    Rule("entropy", lambda row, first: first["entropy"] > 0
         and 0 <= row["entropy"] < 0.003 * first["entropy"]
         and row["return_mean"] <= first["return_mean"], 20,
         "entropy {:.2g}: the policy has collapsed to one action; raise entropy_coef"),
    Rule("value_std", lambda row, _: row["value_std"] < 0.02 * row["target_std"], 30,
         "the value function is dead: its spread is {:.2g}, far below its targets'"),
    Rule("memory_gradient", lambda row, _: row["memory_gradient"] < 1e-5, 20,
         "the memory gets {:.1g} of the gradient: it learns nothing; is it detached?"),
    Rule("memory_saturation", lambda row, _: row["memory_saturation"] > 0.9, 20,
         "{:.0%} of the recurrent state is saturated; lower learning_rate or normalise_obs"),
    Rule("carry_drift", lambda row, _: row["carry_drift"] > 5.0, 20,
         "stored carries are {:.1f} times their size from what the parameters would leave now; "
         "lower learning_rate, or set refresh_carries"),
    Rule("masked_fraction", lambda row, _: row["masked_fraction"] > 0.7, 10,
         "{:.0%} of the sampled steps are masked: sequences are much longer than episodes"),
    Rule("alpha", lambda row, _: row["alpha"] > 100.0, 10,
         "alpha is {:.3g}: the target entropy cannot be reached"),
)  # fmt: skip


class Monitor:
    """Counts how long each metric has been out of range."""

    def __init__(self) -> None:
        self.first: Row | None = None
        self.counts = dict.fromkeys(range(len(RULES)), 0)
        self.said: set[int] = set()

    def watch(self, row: Row) -> Iterator[tuple[str, str]]:
        """The metric and the line for each metric that has just been bad for long enough; a missing
        or NaN metric is neither good nor bad."""
        if self.first is None or self.first["return_mean"] != self.first["return_mean"]:
            self.first = row
        for number, rule in enumerate(RULES):
            value = row.get(rule.metric)
            if number in self.said or value is None or value != value:
                continue
            self.counts[number] = self.counts[number] + 1 if rule.bad(row, self.first) else 0
            if self.counts[number] >= rule.rows:
                self.said.add(number)
                yield rule.metric, f"{rule.text.format(value)} (docs/metrics.md#{rule.metric})"

    def state(self) -> State:
        """The counts as JSON."""
        return {
            "first": self.first,
            "counts": list(self.counts.values()),
            "said": sorted(self.said),
        }

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.first = state["first"]
        self.counts |= dict(zip(self.counts, state["counts"], strict=False))
        self.said = set(state["said"])


@register_callback("monitors")
class Monitors(Callback):
    """Reports metrics that have been out of their healthy range for long."""

    def __init__(self) -> None:
        self.monitor = Monitor()

    def on_row(self, event: RowLogged) -> None:
        """Checks every metric."""
        for metric, line in self.monitor.watch(event.metrics):
            more = event.run.agent.explain(metric)
            event.run.warn(f"{line}; {more}" if more else line)

    def state(self) -> State:
        """How long each metric has been bad."""
        return self.monitor.state()

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.monitor.restore(state)
