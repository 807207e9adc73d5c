"""Small agents of the same kind as the one under examination, and environments for them."""

from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from retain.envs.make import EnvLike, separate
from retain.envs.options import BARE
from retain.train.agent import Agent
from retain.types import Obs

Kind = TypeVar("Kind", bound=Agent)

CLOSE = 1e-4
"""Largest accepted difference between two computations of the same number."""


def small(agent: Agent, **changes: Any) -> dict[str, Any]:
    """The agent's settings with short segments and few environments."""
    now: dict[str, Any] = agent.settings | {"num_envs": 4, "env_groups": 1, "workers": 0}
    now |= agent.config.small()
    return now | changes


def variant(agent: Kind, env: EnvLike | None = None, **changes: Any) -> Kind:
    """A small agent of the same kind; it gets the same parameters if the environment is the
    same."""
    chosen = small(agent, **changes)
    new = type(agent).exactly(separate(agent.env) if env is None else env, chosen)  # type: ignore[arg-type]
    if env is None:
        new.policy.load_state_dict(agent.policy.state_dict())
    return new


def learn_a_little(agent: Agent) -> None:
    """Trains for two turns."""
    for _ in range(2):
        agent.iterate(lambda: 0.0)


def observations(agent: Agent, T: int, B: int) -> Obs:
    """Observations `[T, B, ...]` from the agent's space; see `sampled`."""
    return sampled(agent.observation_space, T, B)


def sampled(space: gym.Space[Any], T: int, B: int) -> Obs:
    """Samples `[T, B, ...]` from a space, for bounded and unbounded entries alike."""

    def draw(space: gym.Space[Any], seed: int) -> Tensor:
        space.seed(seed)
        rows = [space.sample() for _ in range(T * B)]
        array = np.stack([np.asarray(row) for row in rows])
        if array.dtype.kind == "f":
            array = np.clip(array, -3, 3)
        return torch.from_numpy(array).view(T, B, *array.shape[1:])

    if isinstance(space, gym.spaces.Dict):
        return {key: draw(inner, n) for n, (key, inner) in enumerate(space.spaces.items())}
    return draw(space, 0)


class Clock(gym.Env[Any, Any]):
    """Observes (1, episode parity, step / 4); five steps, then alternately truncated or terminated;
    reward 1."""

    observation_space = gym.spaces.Box(-2, 2, (3,), np.float32)

    def __init__(self, actions: gym.Space[Any]) -> None:
        self.action_space = actions
        self.episode = 0

    def _see(self) -> Any:
        return np.array([1.0, self.episode % 2, self.t / 4], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Starts an episode."""
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self._see(), {}

    def step(self, action: Any) -> Any:
        """Counts one step."""
        self.t += 1
        over = self.t == 5
        return self._see(), 1.0, over and self.episode % 2 == 0, over and self.episode % 2 == 1, {}


def on_clock(agent: Kind, **changes: Any) -> Kind:
    """An agent of the same kind in the `Clock`."""
    plain = BARE | {"normalise_obs": False, "encoder": "auto", "encoder_hidden": ()}
    make: Callable[[], Any] = lambda: Clock(agent.action_space)  # noqa: E731
    return variant(agent, make, **plain | changes)
