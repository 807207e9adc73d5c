"""Converts a caller's observations into arrays of a space's shape and kind."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.contract import ObsArray
from retain.errors import UsageError, nearest


def batched(space: gym.Space[Any], obs: Any) -> tuple[ObsArray, int, bool]:
    """`[B, ...]` arrays, B, and whether a single observation was given.

    Args:
        obs: one observation or a batch; for a Dict space also nested dicts and tuples.
    Raises:
        UsageError: an entry is missing, has another shape or kind, or holds a non-finite number.
    """
    if not isinstance(space, gym.spaces.Dict):
        array, single = _leaf(obs, space, "observation")
        return array, len(array), single
    parts = {
        key: _leaf(_entry(obs, key, space), inner, f"observation {key!r}")
        for key, inner in space.spaces.items()
    }
    sizes = {key: len(array) for key, (array, _) in parts.items()}
    size = next(iter(sizes.values()))
    if any(other != size for other in sizes.values()):
        raise UsageError(f"entries of the observation are batches of {sizes} (expected one size)")
    single = next(iter(parts.values()))[1]
    return {key: array for key, (array, _) in parts.items()}, size, single


def _entry(obs: Any, key: str, space: gym.spaces.Dict) -> Any:
    """The entry of an observation for `key`, which is its own name or a path into nested
    entries."""
    if isinstance(obs, dict) and key in obs:
        return obs[key]
    found = obs
    for part in key.split("/"):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, tuple) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(obs, dict):
            extra = [str(one) for one in obs if one not in space.spaces]
            raise UsageError(
                f"the observation has no entry {key!r}{nearest(key, extra)} (expected "
                f"{', '.join(space.spaces)}; found {', '.join(map(str, obs))})"
            )
        else:
            names = ", ".join(space.spaces)
            raise UsageError(f"observation is {type(obs).__name__} (expected a dict of {names})")
    return found


def _leaf(obs: Any, space: gym.Space[Any], name: str) -> tuple[NDArray[Any], bool]:
    shape = space.shape or ()
    try:
        raw = np.asarray(obs)
    except ValueError:
        raise UsageError(
            f"{name} is ragged (expected shape {shape}, or a batch of these)"
        ) from None
    if raw.dtype.kind not in "biuf":
        kind = type(obs).__name__ if raw.dtype.kind == "O" else raw.dtype
        raise UsageError(f"{name} is {kind} (expected numbers of shape {shape})")
    single = raw.shape == shape
    if not single and (raw.ndim != len(shape) + 1 or raw.shape[1:] != shape):
        raise UsageError(f"{name} of shape {raw.shape} (expected {shape}, or a batch of these)")
    _check_values(raw, space, name)
    array = np.ascontiguousarray(raw, dtype=space.dtype)
    return (array.reshape(1, *shape) if single else array), single


def _check_values(raw: NDArray[Any], space: gym.Space[Any], name: str) -> None:
    """Checks that every number fits the space's kind.

    Raises:
        UsageError: names the first number that does not, and its place.
    """
    if raw.dtype.kind == "f":
        finite = np.isfinite(raw)
        if not finite.all():
            raise UsageError(f"{name} is {_where(raw, ~finite)} (expected finite numbers)")
    wanted = np.dtype(space.dtype) if space.dtype is not None else raw.dtype
    if wanted.kind in "iu" and raw.dtype != wanted:
        limits = np.iinfo(wanted)
        wrong = (raw != np.floor(raw)) | (raw < limits.min) | (raw > limits.max)
        if wrong.any():
            raise UsageError(f"{name} is {_where(raw, wrong)} (expected {wanted}, as the space)")
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        count = space.n if isinstance(space, gym.spaces.Discrete) else space.nvec
        outside = (raw < space.start) | (raw >= space.start + count)
        if outside.any():
            raise UsageError(f"{name} is {_where(raw, outside)} (expected one of {space})")


def _where(raw: NDArray[Any], wrong: NDArray[np.bool_]) -> str:
    """The first wrong number, with its place if there are several."""
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    return f"{raw[place]}" + (f" at {list(place)}" if place else "")
