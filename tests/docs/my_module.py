"""What the documentation calls `my_module`: the parts of a reader."""

from typing import Any

import gymnasium as gym
import numpy as np

import retain


class MyEnv(gym.Env[Any, Any]):
    """Ten steps, in which the last observation should be named."""

    def __init__(self, size: int = 2, level: int = 0, length: int = 5) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.low * 0, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        seen = self.np_random.uniform(-1, 1, self.observation_space.shape).astype(np.float32)
        return seen, float(action), self.t == 10, False, {"distance": 1.0, "fuel": 0.5}


class Enough(retain.Callback):
    """Never enough."""
