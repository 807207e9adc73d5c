"""From what a user writes (an id, `module:id`, a callable) to a batch of environments."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import gymnasium as gym

from retain.envs.classic import NATIVE
from retain.envs.contract import Backend
from retain.envs.in_process import InProcess
from retain.envs.register import register_envs
from retain.errors import UsageError, nearest

EnvLike: TypeAlias = str | Callable[[], gym.Env[Any, Any]]
"""A gymnasium id, `module:id`, or a callable that returns an environment."""

EXTRAS = {"box2d": "box2d", "mujoco": "mujoco", "ale_py": "atari"}


def env_name(env: EnvLike) -> str:
    """A name for messages and run folders."""
    if isinstance(env, str):
        return env
    return getattr(env, "__qualname__", type(env).__qualname__).replace("<", "").replace(">", "")


def make_single(
    env: EnvLike, *, render_mode: str | None = None, env_kwargs: Mapping[str, Any] | None = None
) -> gym.Env[Any, Any]:
    """One gymnasium environment.

    Raises:
        UsageError: the id is unknown (the line gives the nearest), its module cannot be imported,
            something it needs is not installed, or the callable returns something else.
    """
    register_envs()
    if not isinstance(env, str):
        made = env()
        if not isinstance(made, gym.Env):
            raise UsageError(
                f"{env_name(env)} returned {type(made).__name__} (expected a gymnasium.Env)"
            )
        return made
    options = dict(env_kwargs or {})
    if render_mode is not None:
        options["render_mode"] = render_mode
    try:
        return gym.make(env, disable_env_checker=True, **options)
    except gym.error.DependencyNotInstalled as error:
        raise UsageError(_missing(env, error)) from None
    except (gym.error.UnregisteredEnv, gym.error.Error) as error:
        if env.split(":")[-1] in gym.registry:
            raise UsageError(f"cannot make {env!r}: {error}") from None
        raise UsageError(_unknown(env)) from None
    except ModuleNotFoundError as error:
        module = error.name or env.split(":")[0]
        raise UsageError(f"cannot import {module!r} for the environment {env!r}") from None
    except TypeError as error:
        raise UsageError(f"cannot make {env!r}: {error}") from None


def _unknown(env: str) -> str:
    close = nearest(env.split(":")[-1], gym.registry)
    return f"unknown environment {env!r}{close or '; `retain envs` lists what is there'}"


def _missing(env: str, error: Exception) -> str:
    spec = gym.registry.get(env.split(":")[-1])
    text = f"{spec.entry_point if spec else ''} {spec.kwargs if spec else ''} {error}".lower()
    for word, extra in EXTRAS.items():
        if word in text or (word == "box2d" and "lunarlander" in text):
            return f"{env} needs an extra that is not installed: pip install 'retain[{extra}]'"
    return f"{env} needs something that is not installed: {error}"


def make(
    env: EnvLike,
    num_envs: int,
    *,
    native: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Backend:
    """A batch of environments with explicit resets.

    Args:
        num_envs: B
        native: use the batched NumPy version where there is one; its numbers are the same.
        env_kwargs: for the environment's constructor.
    Raises:
        UsageError: as `make_single`, or `num_envs` is below 1, or a space is not supported.
    """
    if num_envs < 1:
        raise UsageError(f"num_envs is {num_envs} (expected at least 1)")
    short = env.removeprefix("retain/") if isinstance(env, str) else ""
    if native and short in NATIVE and not env_kwargs:
        batch, velocity = NATIVE[short]
        return batch(num_envs, velocity=velocity)
    return InProcess([partial(make_single, env, env_kwargs=env_kwargs)] * num_envs)
