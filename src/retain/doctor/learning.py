"""Predicts whether an agent will learn: trains for half a minute with the real settings in the real
environment, and names the setting that most probably stands in the way.

A few random episodes describe the task (when rewards come, how large they are, what the agent
sees), and the training's own metrics describe the settings' effect on it. The first rule that fits
is reported. Most rules apply only if the return did not rise, since many settings look odd and
work.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from retain.data.episodes import Episodes
from retain.doctor.report import Result
from retain.doctor.suspects import RULES, Look, Trained
from retain.envs.given import EnvLike
from retain.errors import NonFiniteError
from retain.train.agent import Agent
from retain.train.algorithms import AGENTS
from retain.train.evaluate import environments
from retain.train.yardstick import RandomPlayer

SECONDS = 30.0
NAME = "will it learn?"
RANDOM_EPISODES = 20
RANDOM_STEPS = 4000
"""Largest number of random steps; the last episode may be cut there."""


def learning_results(agent: Agent, env: EnvLike, seconds: float = SECONDS) -> Iterator[Result]:
    """The result of training a copy of the agent, with its settings, in `env` for half a minute."""
    new = AGENTS[agent.algo].exactly(env, agent.settings)
    yield judge(train_for(new, seconds, look_around(new)), seconds)


def judge(trained: Trained, seconds: float) -> Result:
    """The result of a training: the setting that is most probably wrong, if any."""
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
    player, episodes, current = RandomPlayer(agent), list[list[float]](), list[float]()
    with environments(agent, None, 1) as backend, player.noise_of(agent.run_settings.seed):
        runs = Episodes(backend, agent.run_settings.seed)
        obs = runs.begin(np.ones(backend.num_envs, dtype=np.bool_))
        for _ in range(RANDOM_STEPS):
            obs, reward, terminated, truncated = backend.step(player.act(obs)[0])
            current.append(float(reward[0]))
            over = terminated | truncated
            if over[0]:
                episodes.append(current)
                current = []
            if len(episodes) == RANDOM_EPISODES:
                break
            if over.any():
                obs = runs.begin(over)
    episodes = episodes or [current]
    rewards = np.array([reward for episode in episodes for reward in episode])
    length = float(np.mean([len(episode) for episode in episodes]))
    return Look([sum(episode) for episode in episodes], rewards, waiting(episodes), length)


def waiting(episodes: list[list[float]]) -> float:
    """Median number of steps to an informative reward: one that is not the most frequent value."""
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
    """Trains an agent for this many seconds by the clock, then closes its environments."""
    trained, until = Trained(agent, look, [], []), clock() + seconds
    try:
        while clock() < until:
            trained.rows.append(agent.iterate(lambda: 0.0))
            finished = agent.collector.statistics.take_finished()
            trained.returns += [episode.ret for episode in finished]
    except NonFiniteError as error:
        trained.broke = str(error)
    finally:
        for backend in agent.backends:
            backend.close()
    return trained
