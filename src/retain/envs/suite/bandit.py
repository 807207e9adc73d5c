"""A bandit that must be explored anew in every episode."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.batch import Batch, Observations


class Bandit(Batch):
    """Arms that pay 1 with a probability each, drawn uniformly for every episode (Duan et al. 2016,
    RL^2). The observation is the last arm and its pay, so the agent must remember which arm is
    best.

    Args:
        arms: number of arms.
        length: pulls in an episode.
    """

    def __init__(self, num_envs: int, *, arms: int = 2, length: int = 50) -> None:
        super().__init__(num_envs)
        self.arms, self.length = arms, length
        self.observation_space = gym.spaces.Box(0, 1, (arms + 1,), np.float32)
        self.action_space = gym.spaces.Discrete(arms)
        self.pays = np.zeros((length, num_envs, arms), dtype=np.bool_)
        self._seen = np.zeros((num_envs, arms + 1), np.float32)

    def draw(self, index: int, generator: np.random.Generator) -> None:
        """Draws the pay of every arm at every pull."""
        chance = generator.random(self.arms)
        self.pays[:, index] = generator.random((self.length, self.arms)) < chance
        self._seen[index] = 0.0

    def observe(self) -> Observations:
        """The last arm as a one-hot and its pay; zeros at first."""
        return self._seen.copy()

    def advance(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Pulls an arm."""
        arm = np.asarray(action)
        paid = self.pays[self.elapsed, self._each, arm].astype(np.float64)
        self._seen[:] = 0.0
        self._seen[self._each, arm] = 1.0
        self._seen[:, -1] = paid
        return paid, self.elapsed + 1 >= self.length
