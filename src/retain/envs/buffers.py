"""The arrays that a batch of environments writes, in this process or in shared memory."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.contract import ObsArray
from retain.envs.spaces import columns


def cut_rows(obs: ObsArray, rows: slice) -> ObsArray:
    """Views of some environments' rows of an observation."""
    return {k: x[rows] for k, x in obs.items()} if isinstance(obs, dict) else obs[rows]


@dataclass
class Buffers:
    """Arrays of B environments. Observations have two slots, written in turn, so that the last
    observations stay intact while the next ones are written."""

    slots: tuple[ObsArray, ObsArray]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    def rows(self, rows: slice) -> "Buffers":
        """Views of some environments' rows."""
        first, second = self.slots
        return Buffers(
            (cut_rows(first, rows), cut_rows(second, rows)),
            self.reward[rows],
            self.terminated[rows],
            self.truncated[rows],
        )


Layout = dict[str, tuple[tuple[int, ...], Any]]
"""Shapes and dtypes of arrays, by name."""


def buffers_layout(space: gym.Space[Any], num_envs: int, slots: int = 2) -> Layout:
    """The layout of the arrays for `num_envs` environments with this observation space."""
    layout: Layout = {
        f"obs{slot}.{key}": ((num_envs, *shape), dtype)
        for slot in range(slots)
        for key, (shape, dtype) in columns(space).items()
    }
    layout |= {"reward": ((num_envs,), np.float64)}
    layout |= dict.fromkeys(("terminated", "truncated"), ((num_envs,), np.bool_))
    return layout


def fresh_arrays(layout: Layout) -> dict[str, NDArray[Any]]:
    """The arrays of a layout, filled with zeros."""
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}


def buffers_of(space: gym.Space[Any], arrays: dict[str, NDArray[Any]]) -> Buffers:
    """The buffers made from named arrays."""

    outcome = (arrays[name] for name in ("reward", "terminated", "truncated"))
    return Buffers((slot_of(space, arrays, 0), slot_of(space, arrays, 1)), *outcome)


def slot_of(space: gym.Space[Any], arrays: dict[str, NDArray[Any]], number: int) -> ObsArray:
    """One slot of the observations in named arrays."""
    found = {key: arrays[f"obs{number}.{key}"] for key in columns(space)}
    return found if isinstance(space, gym.spaces.Dict) else found[""]
