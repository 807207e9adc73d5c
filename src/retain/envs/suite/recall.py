"""A cue at the start, a choice at the end."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.batch import Batch, Observations


class MemoryChain(Batch):
    """Shows bits at the first step and asks for one of them at the last (after Osband et al. 2020,
    bsuite). With one bit this is a T-maze in which the agent moves automatically: the cue says
    where to turn at the junction.

    The answer at the last step earns 1 or -1; nothing else counts.

    Args:
        length: number of steps between cue and question.
        bits: number of bits shown.
    """

    def __init__(self, num_envs: int, *, length: int = 20, bits: int = 1) -> None:
        super().__init__(num_envs)
        self.length = length
        self.observation_space = gym.spaces.Box(-1, 1, (2 * bits,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.bits = np.zeros((num_envs, bits), dtype=np.int64)
        self.asked = np.zeros(num_envs, dtype=np.int64)

    def draw(self, index: int, generator: np.random.Generator) -> None:
        """Draws the bits and the index to ask for."""
        count = self.bits.shape[1]
        self.bits[index] = generator.integers(0, 2, count)
        self.asked[index] = generator.integers(count)

    def observe(self) -> Observations:
        """Bits as -1 and 1 at the first step, the question as a one-hot at the last, else zeros."""
        count = self.bits.shape[1]
        out = np.zeros((self.num_envs, 2 * count), np.float32)
        first, last = self.elapsed == 0, self.elapsed == self.length
        out[first, :count] = 2.0 * self.bits[first] - 1.0
        rows = np.flatnonzero(last)
        out[rows, count + self.asked[rows]] = 1.0
        return out

    def advance(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Scores the last step."""
        over = self.elapsed >= self.length
        right = action == self.bits[self._each, self.asked]
        return np.where(over, np.where(right, 1.0, -1.0), 0.0), over


class CueTarget(Batch):
    """A corridor with a good and a bad end. The agent sees which is which only at first, while it
    cannot move yet; later it sees only its position (after Pleines et al.'s proof-of-concept memory
    task).

    The good end earns 1, the bad one costs 1, and every step costs 0.02.

    Args:
        show: steps for which the cue is visible and the agent stands still.
        reach: steps from the middle to an end.
        length: steps after which an episode is truncated.
    """

    COST = 0.02

    def __init__(self, num_envs: int, *, show: int = 2, reach: int = 5, length: int = 24) -> None:
        super().__init__(num_envs)
        self.show, self.reach, self.time_limit = show, reach, length
        self.observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.good = np.ones(num_envs, dtype=np.int64)
        self.position = np.zeros(num_envs, dtype=np.int64)

    def draw(self, index: int, generator: np.random.Generator) -> None:
        """Draws the good end, and puts the agent in the middle."""
        self.good[index] = 2 * generator.integers(2) - 1
        self.position[index] = 0

    def observe(self) -> Observations:
        """The left end's value, the position, the right end's value."""
        seen = self.elapsed < self.show
        out = np.zeros((self.num_envs, 3), np.float32)
        out[:, 1] = self.position / self.reach
        out[seen, 2] = self.good[seen]
        out[seen, 0] = -self.good[seen]
        return out

    def advance(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Moves left or right, once the cue is gone."""
        free = self.elapsed >= self.show
        self.position += np.where(free, 2 * np.asarray(action, dtype=np.int64) - 1, 0)
        over = np.abs(self.position) >= self.reach
        won = np.where(np.sign(self.position) == self.good, 1.0, -1.0)
        return np.where(over, won, 0.0) - self.COST, over
