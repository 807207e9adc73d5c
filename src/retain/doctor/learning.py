"""Will it learn? Half a minute of training with the real settings on the real environment, and the
one setting that most probably stands in the way.

A few random episodes say what the task is like (when rewards come, how large they are, what is
seen), the training's own metrics what the settings make of it. The first rule that fits is named;
most of them only where the return did not rise, since many settings look odd and work.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from retain.data.episodes import Episodes
from retain.doctor.report import Result
from retain.doctor.suspects import RULES, Look, Trained
from retain.envs.make import make
from retain.errors import NonFiniteError
from retain.train.agent import Agent
from retain.train.algorithms import AGENTS
from retain.train.yardstick import random_action

SECONDS = 30.0
NAME = "will it learn?"
RANDOM_EPISODES = 20
RANDOM_STEPS = 4000
"""Of random play, at most; the last episode may be cut there."""


def learning_results(agent: Agent, seconds: float = SECONDS) -> Iterator[Result]:
    """The result of half a minute of training a copy of an agent's settings."""
    look = look_around(agent)
    yield judge(train_for(agent, seconds, look), seconds)


def judge(trained: Trained, seconds: float) -> Result:
    """The result of a training: the setting that most probably is wrong, if any."""
    for rule in RULES:
        seen = rule.seen(trained) if rule.always or not trained.rose else ""
        if seen:
            return Result(NAME, "warn", f"{_returns(trained)}; {seen}", (
                f"{seconds:.0f} seconds of training with these settings: of all of them, this one "
                "most probably keeps it from learning."
            ), rule.mend)  # fmt: skip
    known = {
        name: trained.metric(name, 0.5)
        for name in ("approx_kl", "clip_fraction", "explained_variance", "entropy", "grad_norm")
    }
    shown = ", ".join(f"{name} {x:.2g}" for name, x in known.items() if not math.isnan(x))
    hint = "" if trained.rose else "; not risen yet, and nothing looks wrong"
    return Result(NAME, "ok", f"{_returns(trained)}{hint} ({shown})")


def _returns(trained: Trained) -> str:
    if not trained.returns:
        return f"no episode ended in {trained.steps:,} steps"
    return (
        f"return {np.mean(trained.late):.4g} after {trained.steps:,} steps, "
        f"{np.mean(trained.look.returns):.4g} at random"
    )


def look_around(agent: Agent) -> Look:
    """Plays random episodes in an agent's environment."""
    backend = make(agent.env, 1, agent.run_settings.env_options())  # type: ignore[arg-type]
    space, every = backend.action_space, np.ones(1, dtype=np.bool_)
    space.seed(agent.run_settings.seed)
    runs, episodes = Episodes(backend, agent.run_settings.seed), list[list[float]]()
    count = 0
    try:
        while len(episodes) < RANDOM_EPISODES and count < RANDOM_STEPS:
            obs, rewards, over = runs.begin(every), list[float](), False
            while not over and count < RANDOM_STEPS:
                action = np.asarray(random_action(space, obs))[None]
                obs, reward, terminated, truncated = backend.step(action)
                rewards.append(float(reward[0]))
                over, count = bool(terminated[0] or truncated[0]), count + 1
            if over or not episodes:
                episodes.append(rewards)
    finally:
        backend.close()
    every_reward = np.array([r for rewards in episodes for r in rewards])
    return Look(
        [sum(rewards) for rewards in episodes], every_reward, waiting(episodes),
        float(np.mean([len(rewards) for rewards in episodes])),
    )  # fmt: skip


def waiting(episodes: list[list[float]]) -> float:
    """Median steps to a reward that says something: one that is not the most frequent value."""
    values, counts = np.unique(np.concatenate(episodes), return_counts=True)
    usual = values[counts.argmax()] if counts.max() > 0.5 * counts.sum() else None
    if usual is None or (usual != 0 and len(values) == 1):
        return 1.0
    waits: list[int] = []
    for rewards in episodes:
        marked = [t for t, reward in enumerate(rewards) if reward != usual]
        waits += list(np.diff([-1, *marked])) if marked else [len(rewards)]
    return float(np.median(waits))


def train_for(
    agent: Agent, seconds: float, look: Look, clock: Callable[[], float] = time.monotonic
) -> Trained:
    """Trains an agent with the same settings, from scratch, for so many seconds of a clock."""
    new = AGENTS[agent.algo].exactly(agent.env, agent.settings)  # type: ignore[arg-type]
    trained, until = Trained(new, look, [], []), clock() + seconds
    try:
        while clock() < until:
            trained.rows.append(new.iterate(lambda: 0.0))
            trained.returns += [e.ret for e in new.collector.statistics.take_finished()]
    except NonFiniteError as error:
        trained.broke = str(error)
    finally:
        for backend in new.backends:
            backend.close()
    return trained
