"""Plays whole episodes in fresh environments, without touching the training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from retain.data.episodes import Episode, Episodes, info_means
from retain.envs.contract import Backend
from retain.envs.given import EnvLike, given
from retain.envs.make import fresh, make
from retain.envs.options import EnvOptions
from retain.envs.spaces import check_spaces
from retain.errors import UsageError
from retain.train.contract import Player
from retain.train.threads import cpu_threads

PARALLEL = 16
"""The largest number of environments stepped together."""

EVALUATION = 0x5EED
"""An offset that separates the evaluation's episode seeds from the training's."""


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted returns of whole episodes."""

    return_mean: float
    return_std: float
    length_mean: float
    episodes: int
    returns: tuple[float, ...]
    info: dict[str, float] = field(default_factory=dict)
    """Means of the entries in the episodes' last infos: `is_success`, and the names in
    `log_info`."""

    def summary(self) -> dict[str, float]:
        """The numbers without the single returns, and with those of `info`."""
        facts: dict[str, float] = asdict(self)
        del facts["returns"], facts["info"]
        return facts | self.info


def evaluation_options(agent: Player, env: EnvLike | None = None) -> tuple[EnvLike, EnvOptions]:
    """The environment and the options for evaluating an agent: whole games, unshaped rewards.

    env: an environment that replaces the training's.
        env: another environment than the training's.
    Raises:
        UsageError: the agent was loaded without its environment.
    """
    options = replace(agent.run_settings.env_options(), episodic_life=False)
    if env is not None:
        env, decided = given(env, {})
        return env, replace(options, env_kwargs=decided.get("env_kwargs", {}))
    if agent.env is None:
        raise UsageError(agent.no_env)
    return agent.env, options


def evaluation_seed(agent: Player, seed: int | None) -> int:
    """The seed of an evaluation's episodes: the given one, or one derived from the run's seed.

    Raises:
        UsageError: the value is not a seed.
    """
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed} (expected 0 to {2**63 - 1})")
    return agent.run_settings.seed ^ EVALUATION if seed is None else seed


def evaluate(
    agent: Player,
    episodes: int,
    *,
    deterministic: bool = True,
    seed: int | None = None,
    clear_every: int | None = None,
    env: EnvLike | None = None,
) -> Evaluation:
    """Plays `episodes` episodes, in equal shares per environment, so that short ones are not
    favoured.

    Args:
        seed: seed of the episodes; None derives one from the run's seed.
        clear_every: clear the carry every so many steps of an episode, as at a reset.
        env: an environment that replaces the training's.
    Raises:
        UsageError: `episodes` is below 1, or the environment has other spaces.
    """
    if episodes < 1:
        raise UsageError(f"episodes is {episodes} (expected at least 1)")
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed} (expected 0 to {2**63 - 1})")
    with environments(agent, env, min(episodes, PARALLEL)) as backend:
        return _play(agent, backend, episodes, deterministic, seed, clear_every)


def separate(agent: Player) -> bool:
    """Whether an agent can be evaluated in other environments than the training's own."""
    env, options = evaluation_options(agent)
    backend = fresh(env, 1, options)
    if backend is not None:
        backend.close()
    return backend is not None


@contextmanager
def environments(agent: Player, env: EnvLike | None, num_envs: int) -> Iterator[Backend]:
    """About `num_envs` environments for evaluation: fresh ones if they can be made, or else the
    only object. The training's own environments are lent and come back unchanged."""
    other = env is not None
    env, options = evaluation_options(agent, env)
    backend = fresh(env, num_envs, options)
    if backend is not None:
        try:
            check_spaces(backend, agent.observation_space, agent.action_space)
            yield backend
        finally:
            backend.close()
    elif other:
        backend = make(env, env.num_envs if isinstance(env, Backend) else 1, options)
        check_spaces(backend, agent.observation_space, agent.action_space)
        yield backend
    else:
        with agent.lent() as backend:
            yield backend


def _play(
    agent: Player, backend: Backend, episodes: int, deterministic: bool, seed: int | None,
    clear_every: int | None,
) -> Evaluation:  # fmt: skip
    B = backend.num_envs
    quota = np.full(B, episodes // B) + (np.arange(B) < episodes % B)
    seed = evaluation_seed(agent, seed)
    runs = Episodes(backend, seed)
    everywhere = np.ones(B, dtype=np.bool_)
    obs, reset, carry = runs.begin(everywhere), everywhere, agent.initial_carry(B)
    reward: Any = np.zeros(B)
    counted: list[Episode] = []
    with cpu_threads(agent.run_settings.threads), agent.noise_of(seed):
        while quota.any():
            cleared = reset
            if clear_every is not None:
                cleared = reset | (backend.history.length % clear_every == 0)
            action, carry = agent.act(
                obs, carry, cleared, deterministic=deterministic, reward=reward
            )
            obs, reward, terminated, truncated = backend.step(action)
            runs.record(reward)
            reset = terminated | truncated
            if reset.any():
                runs.finish(reset & (quota > 0))
                counted += runs.statistics.take_finished()
                quota = quota - (reset & (quota > 0))
                obs = runs.begin(reset)
    returns = np.array([episode.ret for episode in counted])
    return Evaluation(
        return_mean=float(returns.mean()),
        return_std=float(returns.std()),
        length_mean=float(np.mean([episode.length for episode in counted])),
        episodes=len(counted),
        returns=tuple(returns.tolist()),
        info=info_means(counted, agent.run_settings.log_info),
    )
