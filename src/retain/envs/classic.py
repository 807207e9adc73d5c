"""CartPole and Pendulum as NumPy batches, bit-identical to gymnasium's given seed and actions.

The dynamics are those of gymnasium's classic control environments (version 1.x), in the same order
of floating-point operations; tests compare every observation and reward.
"""

import math
from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.batch import Batch, Observations

Rows = NDArray[np.float64]


def _power_two(x: NDArray[Any]) -> NDArray[Any]:
    """`x ** 2` element by element with the C library's pow, as for NumPy's scalars.

    An array's `x ** 2` multiplies instead, which differs in the last bit once in a thousand.
    """
    return np.array([value**2 for value in x], dtype=x.dtype)


class ClassicBatch(Batch):
    """B copies of a classic control task with a state `[S, B]` and a time limit.

    Args:
        num_envs: B, number of environments.
        velocity: False hides the velocities from the observation.
        noise: standard deviation of Gaussian noise on every entry of the observation.
    """

    state_size: int
    time_limit: int

    def __init__(self, num_envs: int, *, velocity: bool = True, noise: float = 0.0) -> None:
        super().__init__(num_envs)
        self.velocity, self.noise = velocity, noise
        self.state: Rows = np.zeros((self.state_size, num_envs))
        self._noise: NDArray[np.float32] | None = None

    @abstractmethod
    def start(self, generator: np.random.Generator) -> Rows:
        """An initial state `[S]`."""

    @abstractmethod
    def see(self) -> Observations:
        """`[B, D]` fresh float32 observations of the state."""

    def see_within(self, high: NDArray[np.float32]) -> None:
        """Sets the observation space: bounded by `high`, or unbounded under noise."""
        if self.noise:
            high = np.full_like(high, np.inf)
            shape = (self.time_limit + 1, self.num_envs, len(high))
            self._noise = np.zeros(shape, dtype=np.float32)
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)

    def draw(self, index: int, generator: np.random.Generator) -> None:
        """See `Batch`."""
        self.state[:, index] = self.start(generator)
        if self._noise is not None:
            rows = self._noise[:, index]
            rows[:] = generator.standard_normal(rows.shape, dtype=np.float32) * self.noise

    def observe(self) -> Observations:
        """Observations of the state, with noise if there is any."""
        seen = self.see()
        if self._noise is not None:
            seen += self._noise[self.elapsed, self._each]
        return seen


class CartPole(ClassicBatch):
    """CartPole-v1: 500 steps, reward 1 per step; without velocities, only position and angle."""

    state_size, time_limit = 4, 500
    GRAVITY, POLE_MASS, HALF_LENGTH, FORCE, TAU = 9.8, 0.1, 0.5, 10.0, 0.02
    TOTAL_MASS = 0.1 + 1.0
    POLE_MOMENT = 0.1 * 0.5
    X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360

    def __init__(self, num_envs: int, *, velocity: bool = True, noise: float = 0.0) -> None:
        super().__init__(num_envs, velocity=velocity, noise=noise)
        high = np.array([self.X_LIMIT * 2, np.inf, self.ANGLE_LIMIT * 2, np.inf], dtype=np.float32)
        self.see_within(high if velocity else high[[0, 2]])
        self.action_space = gym.spaces.Discrete(2)
        self._reward = np.ones(num_envs)
        self._limit = np.array([[self.X_LIMIT], [self.ANGLE_LIMIT]])
        self._force = np.array([-self.FORCE, self.FORCE])
        self._change = np.zeros_like(self.state)

    def start(self, generator: np.random.Generator) -> Rows:
        """Uniform within 0.05 of upright and at rest."""
        return generator.uniform(low=-0.05, high=0.05, size=4)

    def see(self) -> Observations:
        """Position, velocity, angle, angular velocity."""
        rows = self.state if self.velocity else self.state[::2]
        return rows.T.astype(np.float32, order="C")

    def advance(self, action: NDArray[Any]) -> tuple[Rows, NDArray[np.bool_]]:
        """Explicit Euler on the cart-pole equations (Florian 2007)."""
        theta, theta_dot = self.state[2:]
        change = self._change
        cosine, sine = np.cos(theta), np.sin(theta)
        force = self._force[(action == 1).view(np.int8)]
        pull = (force + self.POLE_MOMENT * np.square(theta_dot) * sine) / self.TOTAL_MASS
        theta_acc = np.divide(
            self.GRAVITY * sine - cosine * pull,
            self.HALF_LENGTH * (4.0 / 3.0 - self.POLE_MASS * np.square(cosine) / self.TOTAL_MASS),
            out=change[3],
        )
        np.subtract(pull, self.POLE_MOMENT * theta_acc * cosine / self.TOTAL_MASS, out=change[1])
        change[::2] = self.state[1::2]
        change *= self.TAU
        self.state += change
        outside = np.abs(self.state[::2]) > self._limit
        return self._reward, outside[0] | outside[1]


class Pendulum(ClassicBatch):
    """Pendulum-v1: 200 steps, never terminates; without velocity, only the angle's cosine and
    sine."""

    state_size, time_limit = 2, 200
    MAX_SPEED, MAX_TORQUE, DT, G = 8, 2.0, 0.05, 10.0

    def __init__(self, num_envs: int, *, velocity: bool = True, noise: float = 0.0) -> None:
        super().__init__(num_envs, velocity=velocity, noise=noise)
        high = np.array([1.0, 1.0, self.MAX_SPEED], dtype=np.float32)
        self.see_within(high if velocity else high[:2])
        self.action_space = gym.spaces.Box(
            -self.MAX_TORQUE, self.MAX_TORQUE, shape=(1,), dtype=np.float32
        )
        self._bound = np.array([np.pi, 1.0])

    def start(self, generator: np.random.Generator) -> Rows:
        """Uniform over all angles, angular velocity within 1."""
        return generator.uniform(low=-self._bound, high=self._bound)

    def see(self) -> Observations:
        """Cosine and sine of the angle, angular velocity."""
        out = np.empty((self.num_envs, 3 if self.velocity else 2), dtype=np.float32)
        out[:, 0], out[:, 1] = np.cos(self.state[0]), np.sin(self.state[0])
        if self.velocity:
            out[:, 2] = self.state[1]
        return out

    def advance(self, action: NDArray[Any]) -> tuple[Rows, NDArray[np.bool_]]:
        """Semi-implicit Euler; the torque enters in float32, as gymnasium's actions do."""
        angle, speed = self.state
        torque = np.clip(action[:, 0], -self.MAX_TORQUE, self.MAX_TORQUE)
        wrapped = ((angle + np.pi) % (2 * np.pi)) - np.pi
        cost = _power_two(wrapped) + 0.1 * _power_two(speed) + 0.001 * _power_two(torque)
        gravity = 3 * self.G / (2 * 1.0)
        new_speed = speed + (gravity * np.sin(angle) + 3.0 * torque) * self.DT
        self.state[1] = np.clip(new_speed, -self.MAX_SPEED, self.MAX_SPEED)
        self.state[0] = angle + self.state[1] * self.DT
        return -cost, self._never
