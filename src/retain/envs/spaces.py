"""Spaces as the library sees them, and arrays for them."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from retain.errors import UsageError

SUPPORTED = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiDiscrete,
    gym.spaces.MultiBinary,
)


def flat_space(space: gym.Space[Any]) -> gym.Space[Any]:
    """The space as the library sees it: nested Dict and Tuple spaces become one flat Dict.

    Keys of inner spaces are joined by "/", entries of a Tuple are called "0", "1", ...

    Raises:
        UsageError: a space of another kind is inside; the line names it.
    """
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        if not isinstance(space, SUPPORTED):
            raise UsageError(
                f"unsupported observation space {space} (expected Box, Discrete, MultiDiscrete, "
                "MultiBinary, or a Dict or Tuple of these)"
            )
        return space
    flat: dict[str, gym.Space[Any]] = {}
    for key, inner in _entries(space):
        part = flat_space(inner)
        if isinstance(part, gym.spaces.Dict):
            flat |= {f"{key}/{name}": leaf for name, leaf in part.spaces.items()}
        else:
            flat[key] = part
    return gym.spaces.Dict(flat)


def _entries(space: gym.spaces.Dict | gym.spaces.Tuple[Any]) -> list[tuple[str, gym.Space[Any]]]:
    if isinstance(space, gym.spaces.Dict):
        return list(space.spaces.items())
    return [(str(index), inner) for index, inner in enumerate(space.spaces)]


def leaves(observation: Any, space: gym.Space[Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested observation as (flat key, value) pairs."""
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return [(prefix, observation)]
    found = []
    for key, inner in _entries(space):
        value = observation[key if isinstance(space, gym.spaces.Dict) else int(key)]
        found += leaves(value, inner, f"{prefix}/{key}" if prefix else key)
    return found


def columns(space: gym.Space[Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of one observation by flat key; the key is "" where there is one alone."""
    if isinstance(space, gym.spaces.Dict):
        return {key: (leaf.shape or (), leaf.dtype) for key, leaf in space.spaces.items()}
    return {"": (space.shape or (), space.dtype)}


def action_converter(space: gym.Space[Any]) -> Callable[[Any], Any]:
    """What turns a row of the action array into what an environment takes.

    Raises:
        UsageError: the space is unsupported.
    """
    if isinstance(space, gym.spaces.Discrete):
        return int
    if isinstance(space, SUPPORTED):
        return lambda action: action
    raise UsageError(
        f"unsupported action space {space} (expected Box, Discrete, MultiDiscrete or MultiBinary)"
    )
