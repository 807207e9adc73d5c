"""Observation wrappers for gymnasium environments."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from retain.errors import UsageError


class KeepEntries(gym.ObservationWrapper[Any, Any, Any]):
    """Shows only some entries of a Box vector: the rest of the state must be remembered.

    Args:
        indices: the entries that stay, in this order.
    Raises:
        UsageError: the observations are no vector, or an index is outside.
    """

    def __init__(self, env: gym.Env[Any, Any], indices: Sequence[int]) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise UsageError(f"KeepEntries needs a Box vector, but the space is {space}")
        self.indices = np.asarray(indices, dtype=np.intp)
        for index in indices:
            if not 0 <= index < space.shape[0]:
                raise UsageError(
                    f"entry {index} is outside the observation (expected 0 to {space.shape[0] - 1})"
                )
        self.observation_space = gym.spaces.Box(
            space.low[self.indices], space.high[self.indices], dtype=space.dtype.type
        )

    def observation(self, observation: Any) -> Any:
        """The kept entries."""
        return observation[self.indices]
