"""The memory block that a pool's processes share, and the arrays in it."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.buffers import Layout, buffers_layout

ALIGN = 64
"""Alignment of arrays in bytes, a cache line."""


def block_layout(
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    *,
    workers: int,
    groups: int,
    each: int,
) -> Layout:
    """The layout of a pool's block.

    Args:
        each: number of environments in a group.
    """
    layout: Layout = dict.fromkeys(("asked", "done"), ((workers,), np.int64))
    shape, dtype = action_space.shape or (), action_space.dtype
    for group in range(groups):
        inside = buffers_layout(observation_space, each, slots=3) | {
            "action": ((each, *shape), dtype),
            "mask": ((each,), np.bool_),
            "seed": ((each,), np.int64),
            "slot": ((1,), np.int64),
            "announced": ((each,), np.int64),
            "begun": ((each,), np.int64),
        }
        layout |= {f"{group}.{name}": entry for name, entry in inside.items()}
    return layout


def layout_bytes(layout: Layout) -> int:
    """Number of bytes that `arrays_in` needs."""
    sizes = (int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in layout.values())
    return sum(-(-size // ALIGN) * ALIGN for size in sizes)


def arrays_in(layout: Layout, memory: memoryview) -> dict[str, NDArray[Any]]:
    """The arrays of a layout, placed one after the other in `memory`."""
    arrays: dict[str, NDArray[Any]] = {}
    offset = 0
    for name, (shape, dtype) in layout.items():
        arrays[name] = np.ndarray(shape, dtype, buffer=memory, offset=offset)
        offset += -(-arrays[name].nbytes // ALIGN) * ALIGN
    return arrays


def group_arrays(shared: dict[str, NDArray[Any]], group: int) -> dict[str, NDArray[Any]]:
    """One group's arrays among all of the block's."""
    prefix = f"{group}."
    return {k.removeprefix(prefix): x for k, x in shared.items() if k.startswith(prefix)}
