"""Spaces as JSON, so that a saved agent acts without its environment installed."""

import math
from typing import Any

import gymnasium as gym
import numpy as np

from retain.errors import UsageError


def _numbers(values: Any) -> Any:
    """One number if all are equal, otherwise the nested list; infinities as strings."""
    array = np.asarray(values)
    first = array.flat[0]
    flat = [str(x) if isinstance(x, float) and np.isinf(x) else x for x in array.ravel().tolist()]
    return flat[0] if (array == first).all() else flat


def _array(numbers: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    values = numbers if isinstance(numbers, list) else [numbers]
    array = np.array([float(x) if isinstance(x, str) else x for x in values[: LARGEST + 1]])
    if array.size == 1:
        return np.full(shape, array[0]).astype(dtype)
    return array.reshape(shape).astype(dtype)


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Converts a space to JSON values; `space_from_json` gives an equal space."""
    spaces = gym.spaces
    if isinstance(space, spaces.Box):
        return {
            "kind": "Box",
            "shape": list(space.shape),
            "dtype": str(space.dtype),
            "low": _numbers(space.low),
            "high": _numbers(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "kind": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.n)}
    if isinstance(space, spaces.Dict):
        entries = {key: space_to_json(sub) for key, sub in space.spaces.items()}
        return {"kind": "Dict", "entries": entries}
    raise UsageError(f"cannot save the space {space}")


LARGEST = 2**24
"""Largest number of entries in a space read from a file."""


def _bounded(shape: Any) -> tuple[int, ...]:
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise UsageError(f"shape is {shape} (expected whole numbers of at least 0)")
    if math.prod(shape) > LARGEST:
        raise UsageError(f"shape is {shape} (expected at most {LARGEST:,} entries)")
    return tuple(shape)


def space_from_json(facts: dict[str, Any]) -> gym.Space[Any]:
    """The space that `space_to_json` described.

    Raises:
        UsageError: the kind of space is unknown, or the space is implausibly large.
    """
    spaces, kind = gym.spaces, facts["kind"]
    if kind == "Box":
        shape, dtype = _bounded(facts["shape"]), np.dtype(facts["dtype"])
        if dtype.kind not in "biuf":
            raise UsageError(f"dtype is {facts['dtype']!r} (expected a numeric dtype)")
        low, high = (_array(facts[end], shape, dtype) for end in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(facts["n"], start=facts["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(facts["nvec"], start=facts["start"])
    if kind == "MultiBinary":
        n = facts["n"]
        shape = _bounded(n if isinstance(n, list) else [n])
        return spaces.MultiBinary(shape if isinstance(n, list) else shape[0])
    if kind == "Dict":
        return spaces.Dict({key: space_from_json(sub) for key, sub in facts["entries"].items()})
    raise UsageError(f"unknown kind of space {kind!r} in a saved agent")
