"""Environments that nobody can train in, each in its own way."""

import sys

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FINE = spaces.Box(-1, 1, (2,), np.float32)
TWO = spaces.Discrete(2)


class Env(gym.Env):
    """Does nothing, in spaces that are handed over."""

    def __init__(self, observation_space=FINE, action_space=TWO, render_mode=None):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class Raises(Env):
    def __init__(self, render_mode=None):
        raise ValueError("no such file:\nmap.txt")


class Exits(Env):
    def __init__(self, render_mode=None):
        sys.exit(3)


class NoSpaces(gym.Env):
    pass


class ResetRaises(Env):
    def reset(self, *, seed=None, options=None):
        raise RuntimeError("the simulator is not there")


def spaced(observation_space=FINE, action_space=TWO):
    return lambda render_mode=None: Env(observation_space, action_space)


MAKERS = {
    "Raises": Raises,
    "Exits": Exits,
    "NoSpaces": NoSpaces,
    "ResetRaises": ResetRaises,
    "NotAnEnv": lambda render_mode=None: 3,
    "EmptyBox": spaced(spaces.Box(-1, 1, (0,), np.float32)),
    "ZeroDict": spaced(spaces.Dict({"x": spaces.Box(-1, 1, (3, 0), np.float32)})),
    "Text": spaced(spaces.Text(9)),
    "Huge": spaced(spaces.Discrete(10**7)),
    "HugeAction": spaced(FINE, spaces.Discrete(10**7)),
    "BoxMatrixAction": spaced(FINE, spaces.Box(-1, 1, (2, 2), np.float32)),
    "TupleAction": spaced(FINE, spaces.Tuple([TWO, TWO])),
    "Masked": spaced(spaces.Dict({"x": FINE, "action_mask": spaces.MultiBinary(2)})),
}
for name, maker in MAKERS.items():
    gym.register(f"Bad/{name}-v0", maker)
