"""Your own environment as a batch: one step of NumPy moves all of its copies.

The task: four signs in a row, and whoever has seen the first names it at the end.

python examples/own_batch.py
"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np

import retain

SIGNS, LENGTH = 4, 4


@retain.register_backend("FirstSigns-v0")
class FirstSigns(retain.Backend):
    """No reset happens by itself: the library resets the rows whose episode has ended."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.observation_space = gym.spaces.Discrete(SIGNS)
        self.action_space = gym.spaces.Discrete(SIGNS)
        self.signs = np.zeros((num_envs, LENGTH), dtype=np.int64)
        self.t = np.zeros(num_envs, dtype=np.int64)
        self.rows = np.arange(num_envs)

    def _reset(self, mask: Any, seeds: Any) -> Any:
        for row in np.flatnonzero(mask):
            self.signs[row] = np.random.default_rng(seeds[row]).integers(SIGNS, size=LENGTH)
            self.t[row] = 0
        return self.signs[self.rows, self.t]

    def _step(self, action: Any) -> retain.EnvStep:
        last = self.t == LENGTH - 1
        reward = (last & (action == self.signs[:, 0])).astype(np.float64)
        self.t = np.minimum(self.t + 1, LENGTH - 1)
        return retain.EnvStep(self.signs[self.rows, self.t], reward, last, np.zeros_like(last))


def main(steps: int = 100_000) -> None:
    """Trains, and prints how often the agent is right."""
    agent = retain.PPO("FirstSigns-v0", memory="gru", num_envs=64, seed=1)
    agent.learn(steps)
    print(f"right in {agent.evaluate(100).return_mean:.0%} of the episodes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
