"""What returns are measured against: random actions, and what the environment itself names."""

import copy
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.data.episodes import Episodes
from retain.envs.catalogue import CATALOGUE
from retain.envs.contract import ObsArray
from retain.envs.make import make
from retain.errors import UsageError
from retain.nn.encoders import ACTION_MASK
from retain.train.agent import Agent
from retain.train.evaluate import EVALUATION


def random_return(agent: Agent, episodes: int) -> float:
    """Mean return of uniformly random (allowed) actions in an agent's environment, made as the
    agent's own are and seeded as its evaluation is.

    Raises:
        UsageError: the agent's environment was a callable that is not here.
    """
    if agent.env is None:
        raise UsageError("this agent's environment was a callable: load(path, env=...)")
    options = replace(agent.run_settings.env_options(), episodic_life=False)
    backend = make(agent.env, 1, options)
    seed = agent.run_settings.seed ^ EVALUATION
    space = copy.deepcopy(backend.action_space)
    space.seed(seed)
    runs, every = Episodes(backend, seed), np.ones(1, dtype=np.bool_)
    total = 0.0
    try:
        for _ in range(episodes):
            obs, over = runs.begin(every), False
            while not over:
                action = np.asarray(random_action(space, obs))[None]
                obs, reward, terminated, truncated = backend.step(action)
                total += float(reward[0])
                over = bool(terminated[0] or truncated[0])
    finally:
        backend.close()
    return total / episodes


def random_action(space: gym.Space[Any], obs: ObsArray) -> Any:
    """A uniform action, of those that the observation `[1, ...]` allows."""
    mask: NDArray[Any] | None = obs.get(ACTION_MASK) if isinstance(obs, dict) else None
    if mask is None:
        return space.sample()
    allowed = mask[0].astype(np.int8)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.sample(mask=tuple(np.split(allowed, np.cumsum(space.nvec)[:-1])))
    return space.sample(mask=allowed)


def reference(env: str) -> float | None:
    """A good return there: the catalogue's, else the threshold that the environment is registered
    with, else None."""
    name = env.split(":")[-1].removeprefix("retain/")
    if name in CATALOGUE and CATALOGUE[name].good is not None:
        return CATALOGUE[name].good
    spec = gym.registry.get(env.split(":")[-1])
    threshold = None if spec is None else spec.reward_threshold
    return None if threshold is None else float(threshold)
