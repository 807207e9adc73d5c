"""An environment that can be checked by counting, for several tests."""

import gymnasium as gym
import numpy as np


class Count(gym.Env):
    """Observes a number drawn at the reset and its step count; eight steps."""

    observation_space = gym.spaces.Box(0, 100, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length=8):
        self.length = length

    def _see(self):
        return np.array([self.start, self.count], np.float32), {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start, self.count = self.np_random.integers(50), 0
        return self._see()

    def step(self, action):
        self.count += 1
        return self._see()[0], float(action), False, self.count >= self.length, {}


def parameters(agent):
    return np.concatenate([p.detach().numpy().ravel() for p in agent.policy.parameters()])
