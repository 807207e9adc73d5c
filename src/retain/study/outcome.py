"""One run of a study: trains or continues it, and measures its outcome."""

import math
import statistics
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.errors import NonFiniteError, UsageError
from retain.study.memory_length import CLEARINGS, returns_when_cleared
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.algorithms import algorithm_class
from retain.train.loading import load
from retain.train.lock import held
from retain.train.plot import read_curve
from retain.train.resume import resume
from retain.train.yardstick import random_return

OUTCOME = "outcome.json"
FINAL = 0.1
"""Share of the run, at its end, over which training returns are averaged."""
END = 0.25
"""Share of the run, at its end, over which the learning curve's slope is taken."""
PATIENCE = 60.0
"""Seconds that a run waits for its folder: after a kill, the worker of the killed study may still
write its checkpoint there."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run."""

    evaluation: float
    """Mean return of whole deterministic episodes of the final agent."""
    final: float
    """Mean training return over the last tenth of the run."""
    efficiency: float
    """Mean training return over the whole run: the area under the learning curve."""
    steps_per_second: float
    cleared: dict[str, float] = field(default_factory=dict)
    """Mean return with the memory cleared at intervals, by the interval in steps; empty without a
    memory."""
    random: float = math.nan
    """Mean return of the same number of episodes with uniformly random actions."""
    rise: float = 0.0
    """Increase of the training return in the last quarter of the run."""


WORST = Outcome(math.nan, math.nan, math.nan, math.nan)
"""The outcome of a trial that broke down."""


@dataclass(frozen=True)
class RunPlan:
    """Everything that training and measuring one run needs; it can be sent to another machine.

    Args:
        settings: settings of the agent, which override its preset.
        folder: the run folder, which holds the run's progress and in the end its outcome.
        episodes: whole episodes that the final agent plays.
        trial: whether the run is a trial of a search: it counts as the worst if a loss is not
            finite, and the length of its memory is not measured.
    """

    env: str
    algo: str
    settings: dict[str, Any]
    steps: int
    folder: Path
    episodes: int = 20
    trial: bool = False


def rise_at_end(steps: NDArray[np.float64], returns: NDArray[np.float64]) -> float:
    """The increase of a straight line fitted to the last quarter of a learning curve."""
    late = steps >= steps[-1] * (1 - END) if len(steps) else np.zeros(0, dtype=np.bool_)
    if late.sum() < 3:
        return 0.0
    slope = np.polyfit(steps[late], returns[late], 1)[0]
    return float(slope * (steps[-1] - steps[late][0]))


def run_one(run: RunPlan) -> Outcome:
    """Trains a run, continues it, or reads its outcome if it is finished.

    Raises:
        UsageError: the settings are impossible, or another process keeps the folder.
        Interrupted: a signal stopped the run; the same call continues it.
        NonFiniteError: a loss was not finite, and the run is not a trial.
    """
    done = finished(run)
    if done is not None:
        return done
    try:
        if run.folder.is_dir():
            with held(run.folder, PATIENCE):
                pass
        outcome = measure(_trained(run), run)
    except NonFiniteError:
        if not run.trial:
            raise
        outcome = WORST
    store.write_json(run.folder / OUTCOME, outcome.__dict__)
    return outcome


def finished(run: RunPlan) -> Outcome | None:
    """The outcome of a run if it has one."""
    path = run.folder / OUTCOME
    found: dict[str, Any] = store.read_json(path) if path.exists() else {}
    return Outcome(**found) if set(found) == {f.name for f in fields(Outcome)} else None


def _trained(run: RunPlan) -> Agent:
    if not store.checkpoints(run.folder):
        agent: Agent = algorithm_class(run.algo)(run.env, **run.settings)
        return agent.learn(run.steps, out=run.folder)
    try:
        return resume(run.folder, env=run.env, trust=True)
    except UsageError:  # finished, but not evaluated yet
        return load(run.folder, env=run.env, trust=True)


def measure(agent: Agent, run: RunPlan) -> Outcome:
    """The outcome of a finished run, from its agent and its metrics."""
    episodes = run.episodes
    curve, returns = read_curve(run.folder)
    _, rates = read_curve(run.folder, "steps_per_second")
    late = returns[curve >= curve[-1] * (1 - FINAL)] if len(curve) else np.array([math.nan])
    cleared: dict[str, float] = {}
    if agent.policy.recurrent and not run.trial:
        cleared = returns_when_cleared(agent, CLEARINGS, episodes)
    return Outcome(
        evaluation=agent.evaluate(episodes).return_mean,
        final=float(late.mean()),
        efficiency=float(np.trapezoid(returns, curve) / (curve[-1] - curve[0]))
        if len(curve) > 1
        else math.nan,
        steps_per_second=float(statistics.median(rates)) if len(rates) else math.nan,
        cleared=cleared,
        random=random_return(agent, episodes),
        rise=rise_at_end(curve, returns),
    )
