"""Any gymnasium environments, stepped one after the other in this process."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.contract import Backend, EnvStep, ObsArray
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


def _leaves(observation: Any, space: gym.Space[Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested observation as (flat key, value) pairs."""
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return [(prefix, observation)]
    found = []
    for key, inner in _entries(space):
        value = observation[key if isinstance(space, gym.spaces.Dict) else int(key)]
        found += _leaves(value, inner, f"{prefix}/{key}" if prefix else key)
    return found


def flatten_observation(observation: Any, space: gym.Space[Any]) -> Any:
    """One environment's observation as `flat_space(space)` shapes it."""
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return observation
    return dict(_leaves(observation, space))


def _action_converter(space: gym.Space[Any]) -> Callable[[Any], Any]:
    """What turns a row of the action array into what an environment takes."""
    if isinstance(space, gym.spaces.Discrete):
        return int
    if isinstance(space, SUPPORTED):
        return lambda action: action
    raise UsageError(
        f"unsupported action space {space} (expected Box, Discrete, MultiDiscrete or MultiBinary)"
    )


class InProcess(Backend):
    """A list of gymnasium environments without autoreset.

    Args:
        factories: make one environment each; all of the same spaces.
    Raises:
        UsageError: a space is unsupported, or the environments differ in theirs.
    """

    def __init__(self, factories: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        self.envs = [factory() for factory in factories]
        self.num_envs = len(self.envs)
        first = self.envs[0]
        for env in self.envs:
            if (env.observation_space, env.action_space) != (
                first.observation_space,
                first.action_space,
            ):
                raise UsageError(f"environments differ in their spaces: {env} and {first}")
        self._inner_space = first.observation_space
        self.observation_space = flat_space(self._inner_space)
        self.action_space = first.action_space
        self._nested = isinstance(self._inner_space, gym.spaces.Dict | gym.spaces.Tuple)
        self._convert = _action_converter(self.action_space)
        B = self.num_envs
        self._obs: ObsArray
        if isinstance(self.observation_space, gym.spaces.Dict):
            self._obs = {
                key: np.zeros((B, *(leaf.shape or ())), dtype=leaf.dtype)
                for key, leaf in self.observation_space.spaces.items()
            }
        else:
            shape = self.observation_space.shape or ()
            self._obs = np.zeros((B, *shape), dtype=self.observation_space.dtype)
        self._reward = np.zeros(B, dtype=np.float64)
        self._terminated = np.zeros(B, dtype=np.bool_)
        self._truncated = np.zeros(B, dtype=np.bool_)

    def _write(self, index: int, observation: Any) -> None:
        if isinstance(self._obs, dict):
            for key, value in _leaves(observation, self._inner_space):
                self._obs[key][index] = value
        else:
            self._obs[index] = observation

    def reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        """See the contract."""
        for index in np.flatnonzero(mask):
            observation, _ = self.envs[index].reset(seed=int(seeds[index]))
            self._write(int(index), observation)
        return self._obs

    def step(self, action: NDArray[Any]) -> EnvStep:
        """See the contract."""
        convert, write = self._convert, self._write
        reward, terminated, truncated = self._reward, self._terminated, self._truncated
        for index, env in enumerate(self.envs):
            observation, reward[index], terminated[index], truncated[index], _ = env.step(
                convert(action[index])
            )
            write(index, observation)
        return EnvStep(self._obs, reward, terminated.copy(), truncated.copy())

    def close(self) -> None:
        """Closes every environment."""
        for env in self.envs:
            env.close()
