"""Wrappers for gymnasium environments. All their random numbers come from the episode's seed."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from retain.envs.options import EnvOptions
from retain.envs.spaces import dig, entries, unreadable
from retain.errors import UsageError, notice, unknown

Env = gym.Env[Any, Any]
ACTION_MASK = "action_mask"
"""The entry of an observation or of `info` that marks the allowed actions."""


def _vector(space: gym.Space[Any], wrapper: str) -> gym.spaces.Box:
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise UsageError(f"{wrapper} needs a Box vector, but the space is {space}")
    return space


class KeepEntries(gym.ObservationWrapper[Any, Any, Any]):
    """Shows only some entries of a Box vector, so that the rest of the state must be remembered.

    Args:
        indices: the entries to keep, in this order.
    Raises:
        UsageError: the observations are not a vector, or an index is outside.
    """

    def __init__(self, env: Env, indices: Sequence[int]) -> None:
        super().__init__(env)
        space = _vector(env.observation_space, "KeepEntries")
        self.indices = np.asarray(indices, dtype=np.intp)
        for index in indices:
            _inside(index, space)
        self.observation_space = gym.spaces.Box(
            space.low[self.indices], space.high[self.indices], dtype=space.dtype.type
        )

    def observation(self, observation: Any) -> Any:
        """The kept entries."""
        return observation[self.indices]


class DropEntries(gym.ObservationWrapper[Any, Any, Any]):
    """Leaves out entries of a Dict or Tuple observation; the rest becomes one flat Dict.

    Args:
        names: flat keys ("image", "pair/0"), or a common first part of several keys ("pair").
    Raises:
        UsageError: the observations have no such entry, or nothing would be left.
    """

    def __init__(self, env: Env, names: Sequence[str]) -> None:
        super().__init__(env)
        inside = entries(env.observation_space)
        for name in names:
            if not any(_names(name, key) for key in inside):
                raise unknown("entry of the observation", name, inside)
        dropped = {key for key in inside if any(_names(name, key) for name in names)}
        if len(dropped) == len(inside):
            raise UsageError(f"drop_obs {tuple(names)} leaves nothing of the observation")
        self.paths = {key: path for key, (path, _) in inside.items() if key not in dropped}
        self.observation_space = gym.spaces.Dict({key: inside[key][1] for key in self.paths})

    def observation(self, observation: Any) -> Any:
        """The kept entries."""
        return {key: dig(observation, path) for key, path in self.paths.items()}


def _names(name: str, key: str) -> bool:
    return key == name or key.startswith(f"{name}/")


def readable(env: Env) -> Env:
    """The environment without observation entries that no network can read; a notice names them.

    Raises:
        UsageError: no entry can be read.
    """
    space = env.observation_space
    dropped = unreadable(space) if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple) else []
    if not dropped or len(dropped) == len(entries(space)):
        return env  # as it is, or refused with the space's name where it is used
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    notice(left_out(name, dropped))
    return DropEntries(env, dropped)


def left_out(name: str, dropped: Sequence[str]) -> str:
    """The line about the entries that were left out."""
    return f"{name}: {', '.join(dropped)} left out of the observations, since nothing can read it"


def _inside(index: int, space: gym.spaces.Box) -> None:
    if not 0 <= index < space.shape[0]:
        raise UsageError(
            f"entry {index} is outside the observation (expected 0 to {space.shape[0] - 1})"
        )


def hide_entries(env: Env, indices: Sequence[int]) -> Env:
    """Shows all entries of a Box vector except some.

    Raises:
        UsageError: the observations are not a vector, an index is outside, or nothing would be
            left.
    """
    space = _vector(env.observation_space, "hide")
    for index in indices:
        _inside(index, space)
    left = [index for index in range(space.shape[0]) if index not in set(indices)]
    if not left:
        raise UsageError(f"hide {tuple(indices)} leaves no entry of the observation {space}")
    return KeepEntries(env, left)


class Seeded(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper with its own random generator, made from the episode's seed."""

    stream: int
    """A number that separates the generators of stacked wrappers."""
    random: np.random.Generator

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode; without a seed the generator continues."""
        if seed is not None or not hasattr(self, "random"):
            self.random = np.random.default_rng(None if seed is None else [seed, self.stream])
        return self.env.reset(seed=seed, options=options)


class SeededObservation(Seeded):
    """A wrapper that changes observations at random."""

    def observation(self, obs: Any) -> Any:
        """The observation after the change."""
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        obs, info = super().reset(seed=seed, options=options)
        return self.observation(obs), info

    def step(self, action: Any) -> Any:
        """Steps, and changes the observation."""
        obs, *rest = self.env.step(action)
        return (self.observation(obs), *rest)


class Noise(SeededObservation):
    """Gaussian noise on every entry of a Box of floats.

    Args:
        spread: standard deviation, in the observation's units.
    Raises:
        UsageError: the observations are not a Box of floats.
    """

    stream = 1

    def __init__(self, env: Env, spread: float) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or space.dtype.kind != "f":
            raise UsageError(f"obs_noise needs a Box of floats, but the space is {space}")
        self.spread, self.kind = spread, space.dtype
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)

    def observation(self, obs: Any) -> Any:
        """The observation with noise."""
        noise = self.random.normal(0.0, self.spread, np.shape(obs))
        return (obs + noise).astype(self.kind)


class Flicker(SeededObservation):
    """Blanks the observation to zeros with a given probability (Hausknecht and Stone 2015).

    Raises:
        UsageError: the observations are not a Box that contains zero.
    """

    stream = 2

    def __init__(self, env: Env, probability: float) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box):
            raise UsageError(f"flicker needs Box observations, but the space is {space}")
        self.probability = probability
        low, high = np.minimum(space.low, 0), np.maximum(space.high, 0)
        self.observation_space = gym.spaces.Box(low, high, dtype=space.dtype.type)

    def observation(self, obs: Any) -> Any:
        """The observation, or zeros."""
        return np.zeros_like(obs) if self.random.random() < self.probability else obs


class StickyActions(Seeded):
    """Repeats the last action instead of the new one with a given probability (Machado 2018)."""

    stream = 3

    def __init__(self, env: Env, probability: float) -> None:
        super().__init__(env)
        self.probability = probability
        self.last: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode, without a last action."""
        self.last = None
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """Steps with the new action or the last one."""
        if self.last is None or self.random.random() >= self.probability:
            self.last = np.copy(action) if isinstance(action, np.ndarray) else action
        return self.env.step(self.last)


class FrameSkip(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats each action; rewards add up, and an episode's end stops the repetition."""

    def __init__(self, env: Env, times: int) -> None:
        super().__init__(env)
        self.times = times

    def step(self, action: Any) -> Any:
        """Takes up to `times` steps."""
        total = 0.0
        for _ in range(self.times):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class MaskFromInfo(gym.Wrapper[Any, Any, Any, Any]):
    """Moves `info["action_mask"]` into the observation, where policies look for it.

    Raises:
        UsageError: the actions are neither Discrete nor MultiDiscrete, or info has no mask.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        actions = env.action_space
        if isinstance(actions, gym.spaces.Discrete):
            width = int(actions.n)
        elif isinstance(actions, gym.spaces.MultiDiscrete):
            width = int(actions.nvec.sum())
        else:
            raise UsageError(f"mask_actions needs Discrete actions, but the space is {actions}")
        if ACTION_MASK not in env.reset(seed=0)[1]:
            raise UsageError(
                f"mask_actions is set, but the environment's info has no {ACTION_MASK!r} "
                "(expected one with a 1 for each allowed action, or mask_actions off)"
            )
        mask = gym.spaces.Box(0, 1, (width,), np.int8)
        self.width = width
        self.observation_space = gym.spaces.Dict(obs=env.observation_space, action_mask=mask)

    def _with_mask(self, obs: Any, info: dict[str, Any]) -> dict[str, Any]:
        if ACTION_MASK not in info:
            raise UsageError(f"mask_actions is set, but info has no {ACTION_MASK!r}")
        mask = np.asarray(info[ACTION_MASK], dtype=np.int8).reshape(self.width)
        return {"obs": obs, ACTION_MASK: mask}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(obs, info), info

    def step(self, action: Any) -> Any:
        """Steps, and shows which actions are allowed next."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(obs, info), reward, terminated, truncated, info


def wrap(env: Env, options: EnvOptions) -> Env:
    """Adds the wrappers that the options ask for, from the environment outwards.

    Raises:
        UsageError: a wrapper does not fit the environment's spaces.
    """
    if options.sticky_actions:
        env = StickyActions(env, options.sticky_actions)
    if options.frame_skip > 1:
        env = FrameSkip(env, options.frame_skip)
    if options.time_limit is not None:
        env = gym.wrappers.TimeLimit(env, options.time_limit)
    if options.drop_obs:
        env = DropEntries(env, options.drop_obs)
    if options.hide:
        env = hide_entries(env, options.hide)
    if options.obs_noise:
        env = Noise(env, options.obs_noise)
    if options.flicker:
        env = Flicker(env, options.flicker)
    if options.mask_actions:
        env = MaskFromInfo(env)
    return env
