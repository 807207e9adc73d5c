"""One run of a comparison: trains or continues it, and measures its outcome."""

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
from retain.train.plot import read_curve
from retain.train.resume import resume
from retain.train.yardstick import random_return

OUTCOME = "outcome.json"
FINAL = 0.1
"""Share of the run, at its end, over which training returns are averaged."""
END = 0.25
"""Share of the run, at its end, over which the learning curve's slope is taken."""


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


def rise_at_end(steps: NDArray[np.float64], returns: NDArray[np.float64]) -> float:
    """The increase of a straight line fitted to the last quarter of a learning curve."""
    late = steps >= steps[-1] * (1 - END) if len(steps) else np.zeros(0, dtype=np.bool_)
    if late.sum() < 3:
        return 0.0
    slope = np.polyfit(steps[late], returns[late], 1)[0]
    return float(slope * (steps[-1] - steps[late][0]))


def run_one(
    env: str, algo: str, settings: dict[str, Any], steps: int, episodes: int, folder: str
) -> dict[str, Any]:
    """Trains a run, continues it, or reads its outcome if it is finished."""
    path = Path(folder)
    if (path / OUTCOME).exists():
        done: dict[str, Any] = store.read_json(path / OUTCOME)
        if set(done) == {f.name for f in fields(Outcome)}:
            return done
    agent: Agent
    if store.checkpoints(path):
        try:
            agent = resume(path, env=env, trust=True)
        except UsageError:  # finished, but not evaluated yet
            agent = load(path, env=env, trust=True)
    else:
        agent = algorithm_class(algo)(env, **settings)
        agent.learn(steps, out=path)
    outcome = measure(agent, path, episodes)
    store.write_json(path / OUTCOME, outcome.__dict__)
    return outcome.__dict__


def run_trial(
    env: str, algo: str, settings: dict[str, Any], steps: int, episodes: int, folder: str
) -> dict[str, Any]:
    """`run_one` for a trial of a search; a run that fails counts as the worst, and raises no
    error."""
    try:
        return run_one(env, algo, settings, steps, episodes, folder)
    except NonFiniteError:
        outcome = Outcome(math.nan, math.nan, math.nan, math.nan)
        store.write_json(Path(folder) / OUTCOME, outcome.__dict__)
        return outcome.__dict__


def measure(agent: Agent, path: Path, episodes: int) -> Outcome:
    """The outcome of a finished run, from its agent and its metrics."""
    curve, returns = read_curve(path)
    _, rates = read_curve(path, "steps_per_second")
    late = returns[curve >= curve[-1] * (1 - FINAL)] if len(curve) else np.array([math.nan])
    cleared: dict[str, float] = {}
    if agent.policy.recurrent:
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
