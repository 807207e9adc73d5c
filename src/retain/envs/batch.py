"""Natively batched environments: NumPy arrays over B copies of a task."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.envs.contract import Backend, EnvStep

Observations = NDArray[np.float32]


class Batch(Backend):
    """B copies of a task; each episode draws from its own generator.

    All random numbers of an episode are drawn at its start, so a step is pure arithmetic.
    """

    time_limit: int | None = None
    """Steps after which an episode is truncated."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.elapsed = np.zeros(num_envs, dtype=np.int64)
        """`[B]` steps of each current episode."""
        self._never = np.zeros(num_envs, dtype=np.bool_)
        self._each = np.arange(num_envs)

    @abstractmethod
    def draw(self, index: int, generator: np.random.Generator) -> None:
        """Begins an episode of one environment."""

    @abstractmethod
    def observe(self) -> Observations:
        """`[B, D]` fresh observations."""

    @abstractmethod
    def advance(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Moves every environment one step; returns reward `[B]` and terminated `[B]`.

        `elapsed` does not include this step yet.
        """

    def _reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> Observations:
        for index in np.flatnonzero(mask):
            # The generator is the one gymnasium makes of a seed.
            self.draw(int(index), np.random.Generator(np.random.PCG64(int(seeds[index]))))
            self.elapsed[index] = 0
        return self.observe()

    def _step(self, action: NDArray[Any]) -> EnvStep:
        reward, terminated = self.advance(action)
        self.elapsed += 1
        limit = self.time_limit
        truncated = self._never if limit is None else self.elapsed >= limit
        return EnvStep(self.observe(), reward, terminated, truncated)
