"""Your own environment, trained in three ways: one at a time, in processes, as a batch.

The task: four signs in a row, and whoever has seen the first names it at the end.

python examples/own_environment.py       # or with the number of steps as its argument
"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np

import retain

SIGNS, LENGTH = 4, 4


class FirstSign(gym.Env[Any, Any]):
    """An ordinary gymnasium environment: nothing here depends on this library.

    All that is random comes from `self.np_random`, which `reset(seed=...)` makes: so an episode is
    its seed and its actions, and can be played again.
    """

    observation_space = gym.spaces.Discrete(SIGNS)
    action_space = gym.spaces.Discrete(SIGNS)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.signs = self.np_random.integers(SIGNS, size=LENGTH)
        self.t = 0
        return self.signs[0], {}

    def step(self, action: Any) -> Any:
        last = self.t == LENGTH - 1
        reward = float(last and action == self.signs[0])
        self.t = min(self.t + 1, LENGTH - 1)
        return self.signs[self.t], reward, last, False, {}


@retain.register_backend("FirstSigns-v0")
class FirstSigns(retain.Backend):
    """The same as a batch: one step of NumPy moves all environments. No reset happens by itself."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.observation_space = FirstSign.observation_space
        self.action_space = FirstSign.action_space
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


def main(steps: int) -> None:
    """Trains in each of the three ways, and prints how often the agent is right."""
    settings: dict[str, Any] = {"memory": "gru", "learning_rate": 2e-3, "num_envs": 8}
    for name, agent in {
        "a class": retain.PPO(FirstSign, **settings),
        "in two processes": retain.PPO(FirstSign, workers=2, **settings),
        "a batch": retain.PPO("FirstSigns-v0", **settings),
    }.items():
        agent.learn(steps)
        result = agent.evaluate(episodes=100)
        print(f"{name}: right in {result.return_mean:.0%} of the episodes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000)
