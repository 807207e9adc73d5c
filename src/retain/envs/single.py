"""A gymnasium environment made from a batch of one."""

from typing import Any

import gymnasium as gym
import numpy as np

from retain.envs.contract import ObsArray
from retain.envs.native import NATIVE, MakeBackend


class Single(gym.Env[Any, Any]):
    """One environment of a batch, with gymnasium's interface.

    Time limits are the batch's own, so no TimeLimit wrapper is needed around it.

    Args:
        name: name of a registered batch.
        make: makes the batch instead, if this process may not know the name.
        kwargs: arguments of the batch.
    """

    def __init__(
        self,
        name: str = "",
        render_mode: str | None = None,
        make: MakeBackend | None = None,
        **kwargs: Any,
    ) -> None:
        self.batch = (make or NATIVE[name])(1, **kwargs)
        self.observation_space = self.batch.observation_space
        self.action_space = self.batch.action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; without a seed, uses the next one of the environment's own stream."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        obs: Any = self.batch.reset(np.ones(1, dtype=np.bool_), np.array([seed], dtype=np.int64))
        return _row(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Steps the one environment."""
        obs, reward, terminated, truncated = self.batch.step(np.asarray(action)[None])
        return _row(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}


def _row(obs: ObsArray) -> Any:
    return {key: x[0] for key, x in obs.items()} if isinstance(obs, dict) else obs[0]
