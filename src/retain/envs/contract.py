"""What the collector asks of a batch of environments, whatever runs them.

Nobody resets behind the collector's back: autoreset is off in every backend. The collector resets
finished environments itself, each episode with its own seed, so an episode *is* its seed and its
actions and can always be played again.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

ObsArray: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]
"""`[B, ...]`, or a dict of such arrays for a Dict space."""


class EnvStep(NamedTuple):
    """What B environments answer to B actions. Arrays stay valid until the backend's next call."""

    obs: ObsArray
    """`[B, ...]` the true successor: the final observation where the episode ended."""
    reward: NDArray[np.float64]
    """`[B]`"""
    terminated: NDArray[np.bool_]
    """`[B]` the episode ended for a reason of the task: no value follows."""
    truncated: NDArray[np.bool_]
    """`[B]` the episode was cut from outside: the successor still has a value."""


class Backend(ABC):
    """B environments stepped together, with explicit resets."""

    num_envs: int
    observation_space: gym.Space[Any]
    """One environment's, not the batch's."""
    action_space: gym.Space[Any]
    """One environment's, not the batch's."""

    @abstractmethod
    def reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        """Starts a new episode where `mask` `[B]` is true, seeded by `seeds` `[B]`.

        Returns:
            `[B, ...]` the new episodes' first observations; the other rows are unchanged from the
            last call. Valid until the next call.
        """

    @abstractmethod
    def step(self, action: NDArray[Any]) -> EnvStep:
        """Steps every environment with `action` `[B, ...]`, in the action space's own dtype.

        An environment whose episode has ended must be reset before it is stepped again.
        """

    def close(self) -> None:  # noqa: B027 (most backends hold nothing)
        """Releases what the environments hold; the backend is not used after."""
