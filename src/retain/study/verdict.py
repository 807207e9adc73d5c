"""What a comparison may say, and when it must say that it knows nothing.

A verdict is given only where a variant demonstrably learned, the curve of the one behind has come
to its end, and the rank test's p-value, times the number of variants that could have been picked
as the best, is 0.05 at most; that two are as good, only where the interval of their difference is
narrow against what was learned. Everything else is no verdict, with what to try next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from retain.study.compare import Study
from retain.study.outcome import Outcome
from retain.study.statistics import (
    Interval,
    iqm,
    iqm_difference,
    iqm_interval,
    rank_test,
    rank_test_floor,
)
from retain.train.yardstick import reference

LEVEL = 0.05
"""Largest p-value that a headline is given on."""
LEARNED = 0.1
"""Share of the best known gain over random actions below which a variant has not learned."""
RISING = 0.1
"""Share of the best gain over random actions by which a curve that still rises does so, in the
last quarter of the run."""
EQUAL = 0.2
"""Share of the best gain within which the interval of a difference must lie for "as good"."""

Kind = Literal["helps", "hurts", "no difference", "nothing learned", "memory did not learn",
               "too few seeds", "still rising", "seeds disagree"]  # fmt: skip
DECIDED: tuple[Kind, ...] = ("helps", "hurts", "no difference")


@dataclass(frozen=True)
class Verdict:
    """A headline that its p-value can carry, or none."""

    kind: Kind
    text: str
    """One sentence."""
    doubt: str
    """What the seeds can and cannot say."""
    advice: tuple[str, ...] = ()
    """What to try, in order; empty where there is a verdict."""

    @property
    def decided(self) -> bool:
        """Whether it says anything about the variants."""
        return self.kind in DECIDED

    @property
    def headline(self) -> str:
        """The sentence, marked where it is no verdict."""
        return self.text if self.decided else f"no verdict: {self.text}"

    def __str__(self) -> str:
        return f"{self.headline}. {self.doubt}."


def evaluations(outcomes: Sequence[Outcome]) -> list[float]:
    """The final agents' returns."""
    return [outcome.evaluation for outcome in outcomes]


def rate(outcomes: Sequence[Outcome]) -> float:
    """Median training speed."""
    return float(np.median([outcome.steps_per_second for outcome in outcomes]))


class Evidence:
    """What is known of each variant, against random actions and against the first."""

    def __init__(self, study: Study, found: Mapping[str, Sequence[Outcome]]) -> None:
        self.study, self.found = study, found
        self.base, *self.others = found
        self.value = {name: float(iqm(evaluations(o))) for name, o in found.items()}
        self.best = max(self.others, key=self.value.__getitem__)
        gap = self.value[self.best] - self.value[self.base]
        self.ahead, self.behind = (self.best, self.base) if gap > 0 else (self.base, self.best)

    @cached_property
    def reference(self) -> float | None:
        """A good return, where the environment names one."""
        return reference(self.study.env)

    def random(self, name: str) -> float:
        """What random actions come to in a variant's environment."""
        return float(np.mean([o.random for o in self.found[name]]))

    def gain(self, name: str) -> Interval:
        """A variant's return over that of random actions."""
        outcomes = self.found[name]
        return iqm_difference(evaluations(outcomes), [o.random for o in outcomes])

    @cached_property
    def scale(self) -> float:
        """The best gain over random actions among the variants."""
        return max(self.gain(name).value for name in self.found)

    def learned(self, name: str) -> bool:
        """Whether a variant is better than random by more than the interval, and by a share of
        the best gain that is known: the best variant's, or the reference's where that is more."""
        gain, known = self.gain(name), self.scale
        if self.reference is not None:
            known = max(known, self.reference - self.random(name))
        return gain.low > 0 and gain.value >= LEARNED * known

    def rising(self, name: str) -> float:
        """By how much a variant's curve still rises at its end; 0 where it does not."""
        rises = np.array([o.rise for o in self.found[name]])
        steady = iqm_interval(rises).low > 0
        return (
            float(rises.mean()) if steady and rises.mean() > RISING * max(self.scale, 0.0) else 0.0
        )

    @cached_property
    def gap(self) -> Interval:
        """The best of the others against the first."""
        return iqm_difference(
            evaluations(self.found[self.best]), evaluations(self.found[self.base])
        )

    @cached_property
    def p(self) -> float:
        """Of the rank test between these two, times the number of those the best was picked of."""
        p = rank_test(evaluations(self.found[self.best]), evaluations(self.found[self.base]))
        return min(1.0, p * len(self.others))

    def floor(self, seeds: int) -> float:
        """The smallest that `p` can become with so many seeds."""
        return min(1.0, rank_test_floor(seeds, seeds) * len(self.others))

    @property
    def enough(self) -> int:
        """Seeds with which `p` can reach the level."""
        return next(n for n in range(2, 100) if self.floor(n) <= LEVEL)

    @property
    def subject(self) -> str:
        """What the study is about: memory, or else its best variant."""
        return "memory" if self.about_memory else self.best

    @property
    def about_memory(self) -> bool:
        """Whether memories are compared with none."""
        return self.study.variants[0].settings.get("memory") == "none"

    def against_random(self, name: str) -> str:
        """`-232 against -235 of random actions`"""
        return f"{self.value[name]:.4g} against {self.random(name):.4g} of random actions"


def judge(study: Study, found: Mapping[str, Sequence[Outcome]]) -> Verdict:
    """The verdict on the best of the others against the first."""
    evidence = Evidence(study, found)
    kind, text = _unlearned(evidence) or _undecided(evidence) or _decided(evidence)
    advice = () if kind in DECIDED else _advice(kind, evidence)
    return Verdict(kind, text, _doubt(evidence), advice)


def _unlearned(e: Evidence) -> tuple[Kind, str] | None:
    top = e.ahead
    if not any(e.learned(name) for name in e.found):
        much = "" if e.gain(top).low <= 0 else "much "
        still = "; its curve still rises" if e.rising(top) else ""
        asked = "memory" if e.about_memory else "what varies"
        return "nothing learned", (
            f"no variant is {much}better than random by more than the interval ({top}: "
            f"{e.against_random(top)}{still}); the settings or the budget, not {asked}, are the "
            "question"
        )
    if e.about_memory and not e.learned(e.best):
        return "memory did not learn", (
            f"{e.best}, the best with a memory, did not learn ({e.against_random(e.best)}; "
            f"{e.base}: {e.value[e.base]:.4g}); its settings, not memory, are the question"
        )
    return None


def _undecided(e: Evidence) -> tuple[Kind, str] | None:
    n, shown = e.study.seeds, _shown(e.gap)
    measured = f"{e.best} against {e.base} {shown}"
    if e.floor(n) > LEVEL:
        return "too few seeds", (
            f"{measured} on {n} seeds, and with {n} no p-value can go below {e.floor(n):.2g}"
        )
    separate = e.p <= LEVEL and (e.gap.low > 0 or e.gap.high < 0)
    late = [name for name in ((e.behind,) if separate else (e.behind, e.ahead)) if e.rising(name)]
    if late:
        name = late[0]
        return "still rising", (
            f"{name} is still rising (by {e.rising(name):.4g} in the last quarter of the run; "
            f"{measured})"
        )
    if not separate and max(abs(e.gap.low), abs(e.gap.high)) > EQUAL * e.scale:
        spread = max((e.base, e.best), key=lambda name: float(np.ptp(evaluations(e.found[name]))))
        values = evaluations(e.found[spread])
        return "seeds disagree", (
            f"the seeds disagree ({spread} from {min(values):.4g} to {max(values):.4g}; "
            f"{measured}, p = {e.p:.2g})"
        )
    return None


def _decided(e: Evidence) -> tuple[Kind, str]:
    shown = _shown(e.gap)
    settings = "" if e.study.trials else " with these settings"
    if e.p <= LEVEL and e.gap.low > 0:
        return "helps", f"{e.subject} helps: {e.best} against {e.base} {shown}, p = {e.p:.2g}"
    if e.p <= LEVEL and e.gap.high < 0:
        return "hurts", (
            f"{e.subject} hurts here{settings}: "
            f"{'even ' * (len(e.others) > 1)}{e.best} is below {e.base}, {shown}, p = {e.p:.2g}"
        )
    slower = rate(e.found[e.base]) / rate(e.found[e.best])
    pace = f" and {slower:.1f}x faster" if slower > 1.05 else ""
    return "no difference", (
        f"{e.subject} does not help here{settings}: {e.base} is as good{pace} ({e.best} {shown})"
    )


def _shown(gap: Interval) -> str:
    return f"{gap.value:+.4g} [{gap.low:.4g}, {gap.high:.4g}]"


def _doubt(e: Evidence) -> str:
    n, picked = e.study.seeds, len(e.others)
    best_of = f", counted {picked} times since the best of {picked} was picked" * (picked > 1)
    never = ", so it can never reach 0.05" if e.floor(n) > LEVEL else ""
    return f"{n} seeds each: a rank test cannot go below p = {e.floor(n):.3g}{best_of}{never}"


def _advice(kind: Kind, e: Evidence) -> tuple[str, ...]:
    study = e.study
    memory = f" --memory {e.best}" if e.about_memory else ""
    search = "--tune: the same small search for every variant, then fresh seeds"
    doctor = (
        f"retain doctor {study.algo} --env {study.env}{memory}: its last part names the setting "
        "that most likely keeps it from learning"
    )
    longer = f"--steps {3 * study.steps} (and another --out)"
    tune = () if study.trials else (search,)
    more = max(2 * study.seeds, e.enough)
    if kind == "nothing learned" and any(e.rising(name) for name in e.found):
        return longer, *tune, doctor
    if kind in ("nothing learned", "memory did not learn"):
        return doctor, *tune, longer
    if kind == "too few seeds":
        return (f"--seeds {max(5, e.enough)}: the runs that are there are kept",)
    if kind == "still rising":
        return longer, *tune
    return f"--seeds {more}: the runs that are there are kept", *tune, longer
