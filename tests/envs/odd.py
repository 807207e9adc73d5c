"""Environments that show everything about themselves, and misbehave; workers import this, not torch."""

import os
import time

import gymnasium as gym
import numpy as np


class Odd(gym.Env):
    """Observes (episode seed, steps, sum of actions); ends after 3 to 9 steps, by its seed."""

    observation_space = gym.spaces.Dict(
        {"pair": gym.spaces.Box(-np.inf, np.inf, (2,), np.float64), "sum": gym.spaces.Discrete(99)}
    )
    action_space = gym.spaces.Discrete(3, start=1)

    def observe(self):
        return {"pair": np.array([self.seed, self.t], float), "sum": self.sum}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t, self.sum = seed, 0, 0
        return self.observe(), {}

    def step(self, action):
        assert isinstance(action, int)
        self.t += 1
        self.sum += action
        over = self.t >= 3 + self.seed % 7
        return self.observe(), float(self.sum), over and self.seed % 2 == 0, over, {}


class Hangs(Odd):
    """Hangs once in its life: at a step that leaves a mark first."""

    def __init__(self, mark):
        self.mark = mark

    def step(self, action):
        if self.t == 2 and self.seed == 0 and not self.mark.exists():
            self.mark.touch()
            time.sleep(60)
        return super().step(action)


class Raises(Odd):
    """Raises at its third step where its seed is odd, or always."""

    def __init__(self, always=False):
        self.always = always

    def step(self, action):
        if self.t == 2 and (self.always or self.seed % 2):
            raise ValueError(f"third step of {self.seed}")
        return super().step(action)


class Moody(Odd):
    """Not deterministic given its seed."""

    def observe(self):
        return super().observe() | {"pair": np.array([os.getpid(), self.t], float)}


def play(groups, steps, disturb=lambda t: None):
    """Everything that the groups answer to fixed actions, resets included."""
    told = []
    for g, backend in enumerate(groups):
        everywhere = np.ones(backend.num_envs, dtype=bool)
        told.append(flat(backend.reset(everywhere, np.arange(backend.num_envs) + 10 * g)))
    for t in range(steps):
        for g, backend in enumerate(groups):
            backend.send(1 + (np.arange(backend.num_envs) + t + g) % 3)
        disturb(t)
        for backend in groups:
            obs, reward, terminated, truncated = backend.receive()
            told += [flat(obs), reward.copy(), terminated.copy(), truncated.copy()]
            ended = terminated | truncated
            if ended.any():
                told.append(flat(backend.reset(ended, np.arange(backend.num_envs) + 50 + t)))
            if t % 3:  # announced seeds come true at one step in two, and not at all after others
                backend.announce(np.arange(backend.num_envs) + 51 + t)
    return told


def flat(obs):
    return np.concatenate([np.asarray(x, float).reshape(len(x), -1) for x in obs.values()], axis=1)


def equal(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def begin_ahead(backend):
    """Two environments of one worker: the first ends, and its next episode has begun already."""
    backend.reset(np.ones(2, dtype=bool), np.array([7, 8]))  # three and four steps long
    backend.announce(np.array([70, 80]))
    for _ in range(3):
        out = backend.step(np.ones(2, dtype=np.int64))
    assert (out.terminated | out.truncated).tolist() == [True, False]
    assert out.obs["pair"][0].tolist() == [7, 3]  # the final observation is still there
    assert backend.arrays["begun"].tolist() == [70, -1]
    asked = backend.pool.handles[0].asked
    obs = backend.reset(np.array([True, False]), np.array([70, 99]))
    assert obs["pair"].tolist() == [[70, 0], [8, 3]]
    assert backend.pool.handles[0].asked == asked  # nothing had to be asked for
