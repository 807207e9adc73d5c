"""Spaces in the library's form, and arrays for them."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

import gymnasium as gym

from retain.errors import UsageError

SUPPORTED = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiDiscrete,
    gym.spaces.MultiBinary,
)


Path = tuple[str | int, ...]
"""The position of an entry in a nested observation: keys of dicts and indices of tuples."""


def entries(space: gym.Space[Any], path: Path = ()) -> dict[str, tuple[Path, gym.Space[Any]]]:
    """Path and space of every entry inside nested Dict and Tuple spaces, by flat key.

    Keys of inner spaces are joined by "/", and entries of a Tuple are called "0", "1", ...; a space
    of another kind has the key "".
    """
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return {"/".join(map(str, path)): (path, space)}
    inside = space.spaces.items() if isinstance(space, gym.spaces.Dict) else enumerate(space.spaces)
    return {k: leaf for key, inner in inside for k, leaf in entries(inner, (*path, key)).items()}


def dig(observation: Any, path: Path) -> Any:
    """The value at a path."""
    for key in path:
        observation = observation[key]
    return observation


def unreadable(space: gym.Space[Any]) -> list[str]:
    """The flat keys of entries that no network can read (Text, Graph, Sequence, ...)."""
    return [key for key, (_, leaf) in entries(space).items() if not isinstance(leaf, SUPPORTED)]


def flat_space(space: gym.Space[Any], without: Collection[str] = ()) -> gym.Space[Any]:
    """The space in the library's form: nested Dict and Tuple spaces become one flat Dict.

    Args:
        without: flat keys of entries to leave out.
    Raises:
        UsageError: an inner space is of another kind, or nothing is left; the line names it.
    """
    flat = {key: leaf for key, (_, leaf) in entries(space).items() if key not in without}
    wrong = next((leaf for leaf in flat.values() if not isinstance(leaf, SUPPORTED)), None)
    if wrong is not None or not flat:
        raise UsageError(
            f"unsupported observation space {space if wrong is None else wrong} (expected Box, "
            "Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these)"
        )
    return gym.spaces.Dict(flat) if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple) else space


def leaves(observation: Any, space: gym.Space[Any]) -> list[tuple[str, Any]]:
    """A nested observation as (flat key, value) pairs."""
    return [(key, dig(observation, path)) for key, (path, _) in entries(space).items()]


def columns(space: gym.Space[Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of one observation, by flat key; a single array has the key ""."""
    if isinstance(space, gym.spaces.Dict):
        return {key: (leaf.shape or (), leaf.dtype) for key, leaf in space.spaces.items()}
    return {"": (space.shape or (), space.dtype)}


def action_converter(space: gym.Space[Any]) -> Callable[[Any], Any]:
    """A function that converts a row of the action array to an environment's action.

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


class HasSpaces(Protocol):
    """Anything with one environment's spaces."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]


def check_spaces(env: HasSpaces, observation: gym.Space[Any], action: gym.Space[Any]) -> None:
    """Checks that an environment has the spaces that an agent was made for.

    Raises:
        UsageError: names the difference.
    """
    for name, found, wanted in (
        ("observation", env.observation_space, observation),
        ("action", env.action_space, action),
    ):
        if found != wanted:
            raise UsageError(f"the environment's {name} space is {found} (expected {wanted})")
