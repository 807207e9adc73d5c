"""Decides what a comparison can say, and when it has no verdict.

One variant is called better only if a variant demonstrably learned, the curve of the one behind has
flattened, and the rank test's p-value, times the number of variants that could have been picked as
the best, is at most 0.05. Two are called equally good only if the interval of their difference is
narrow compared with what was learned. In all other cases there is no verdict, and the text says
what to try next.
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
"""Largest p-value for which a headline is given."""
LEARNED = 0.1
"""Share of the best known gain over random actions below which a variant has not learned."""
RISING = 0.1
"""Share of the best gain over random actions by which a curve must increase in the last quarter of
the run to count as still rising."""
EQUAL = 0.2
"""Share of the best gain within which the interval of a difference must lie for "as good"."""

Kind = Literal["helps", "hurts", "no difference", "nothing learned", "memory did not learn",
               "too few seeds", "still rising", "seeds disagree"]  # fmt: skip
DECIDED: tuple[Kind, ...] = ("helps", "hurts", "no difference")


@dataclass(frozen=True)
class Verdict:
    """A headline that its p-value supports, or no headline."""

    kind: Kind
    text: str
    """The headline, one sentence."""
    doubt: str
    """The certainty that the seeds allow, in words."""
    advice: tuple[str, ...] = ()
    """Things to try next, in order; empty if there is a verdict."""

    @property
    def decided(self) -> bool:
        """Whether the verdict says anything about the variants."""
        return self.kind in DECIDED

    @property
    def headline(self) -> str:
        """The sentence, marked if it is not a verdict."""
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
    """The evidence for each variant, compared with random actions and with the first variant."""

    def __init__(self, study: Study, found: Mapping[str, Sequence[Outcome]]) -> None:
        self.study, self.found = study, found
        self.base, *self.others = found
        self.value = {name: float(iqm(evaluations(o))) for name, o in found.items()}
        self.best = max(self.others, key=self.value.__getitem__)
        gap = self.value[self.best] - self.value[self.base]
        self.ahead, self.behind = (self.best, self.base) if gap > 0 else (self.base, self.best)

    @cached_property
    def reference(self) -> float | None:
        """A good return, if the environment has a known one."""
        return reference(self.study.env)

    def random(self, name: str) -> float:
        """Mean return of random actions in a variant's environment."""
        return float(np.mean([o.random for o in self.found[name]]))

    def gain(self, name: str) -> Interval:
        """A variant's return minus that of random actions."""
        outcomes = self.found[name]
        return iqm_difference(evaluations(outcomes), [o.random for o in outcomes])

    @cached_property
    def scale(self) -> float:
        """The largest gain over random actions of any variant."""
        return max(self.gain(name).value for name in self.found)

    def learned(self, name: str) -> bool:
        """Whether a variant beats random actions by more than the interval, and by a share of the
        best known gain: the best variant's, or the reference's if that is larger."""
        gain, known = self.gain(name), self.scale
        if self.reference is not None:
            known = max(known, self.reference - self.random(name))
        return gain.low > 0 and gain.value >= LEARNED * known

    def rising(self, name: str) -> float:
        """The increase of a variant's curve at its end; 0 if it no longer rises."""
        rises = np.array([o.rise for o in self.found[name]])
        steady = iqm_interval(rises).low > 0
        return (
            float(rises.mean()) if steady and rises.mean() > RISING * max(self.scale, 0.0) else 0.0
        )

    @cached_property
    def gap(self) -> Interval:
        """The difference between the best of the other variants and the first."""
        return iqm_difference(
            evaluations(self.found[self.best]), evaluations(self.found[self.base])
        )

    @cached_property
    def p(self) -> float:
        """The p-value of the rank test between these two, times the number of variants that the
        best was picked from."""
        p = rank_test(evaluations(self.found[self.best]), evaluations(self.found[self.base]))
        return min(1.0, p * len(self.others))

    def floor(self, seeds: int) -> float:
        """The smallest `p` that this many seeds can give."""
        return min(1.0, rank_test_floor(seeds, seeds) * len(self.others))

    @property
    def enough(self) -> int:
        """Number of seeds with which `p` can reach the level."""
        return next(n for n in range(2, 100) if self.floor(n) <= LEVEL)

    @property
    def subject(self) -> str:
        """The subject of the study: memory, or else its best variant."""
        return "memory" if self.about_memory else self.best

    @property
    def about_memory(self) -> bool:
        """Whether the study compares memories with none."""
        first, *others = (variant.settings.get("memory") for variant in self.study.variants)
        return first == "none" and {*others} != {first}

    @property
    def memory(self) -> str:
        """The best variant's memory."""
        same = {"memory": "none", **self.study.settings}
        settings = {variant.name: variant.settings for variant in self.study.variants}
        return str((same | settings[self.best])["memory"])

    def against_random(self, name: str) -> str:
        """`-232 against -235 for random actions`"""
        return f"{self.value[name]:.4g} against {self.random(name):.4g} for random actions"


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
    if late and not e.study.AT_BUDGET:
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
    search = "--tune: the same small search for every variant, then fresh seeds"
    doctor = (
        f"retain doctor {study.algo} --env {study.env} --memory {e.memory}: its last part names "
        "the setting that most likely keeps it from learning"
    )
    longer = f"--steps {3 * study.steps} (and another --out)"
    tune = () if study.trials else (search,)
    more = max(2 * study.seeds, e.enough)
    if kind == "nothing learned" and any(e.rising(name) for name in e.found):
        return longer, *tune, doctor
    if kind in ("nothing learned", "memory did not learn"):
        return doctor, *tune, longer
    if kind == "too few seeds":
        return (f"{study.SEEDS} {max(5, e.enough)}: the runs that are there are kept",)
    if kind == "still rising":
        return longer, *tune
    return f"{study.SEEDS} {more}: the runs that are there are kept", *tune, longer
