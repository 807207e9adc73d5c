"""Checks that the environments' responses can be acted on and learned from."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.contract import ObsArray
from retain.envs.spaces import columns
from retain.envs.wrappers import ACTION_MASK


class Sanity:
    """Finds environments, among B, whose response holds a NaN, an infinity, or a mask that allows
    no action.

    A product with zeros is exactly zero if everything is finite, so the check takes one pass over
    the numbers and allocates nothing.
    """

    def __init__(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], num_envs: int
    ) -> None:
        self.zeros = {
            key: np.zeros(num_envs * int(np.prod(shape)), dtype)
            for key, (shape, dtype) in columns(observation_space).items()
            if np.issubdtype(dtype, np.floating)
        }
        self.no_reward = np.zeros(num_envs)
        self.masked = ACTION_MASK in columns(observation_space)
        self.starts = [0]
        """The first index of each MultiDiscrete factor in the mask."""
        if isinstance(action_space, gym.spaces.MultiDiscrete):
            self.starts = np.cumsum([0, *action_space.nvec.ravel()[:-1]]).tolist()

    def find(
        self,
        obs: ObsArray,
        reward: NDArray[np.float64] | None = None,
        over: NDArray[np.bool_] | None = None,
    ) -> dict[int, str]:
        """The faults found, by environment.

        Args:
            reward: `[B]` rewards.
            over: `[B]` true where the episode ended here, so that nobody acts on the observation.
        """
        found: dict[int, str] = {}
        with np.errstate(invalid="ignore"):
            for key, zeros in self.zeros.items():
                column: NDArray[Any] = obs[key] if isinstance(obs, dict) else obs
                if zeros.dot(column.ravel()) != 0.0:
                    where = f"entry {key!r} of the observation" if key else "the observation"
                    _add_not_finite(found, where, column)
            if reward is not None and self.no_reward.dot(reward) != 0.0:
                _add_not_finite(found, "the reward", reward)
        if self.masked and isinstance(obs, dict):
            allowed = np.logical_or.reduceat(obs[ACTION_MASK] != 0, self.starts, axis=-1)
            none = ~allowed.reshape(len(allowed), -1).all(axis=1)
            if over is not None:
                none &= ~over
            for index in np.flatnonzero(none).tolist():
                found.setdefault(index, "the action mask allows no action")
        return found


def _add_not_finite(found: dict[int, str], name: str, column: NDArray[Any]) -> None:
    rows = column.reshape(len(column), -1)
    for index in np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
        entry = int(np.flatnonzero(~np.isfinite(rows[index]))[0])
        at = f"[{entry}]" if column.ndim > 1 else ""
        found.setdefault(index, f"{name}{at} is {rows[index, entry]} (expected a finite number)")
