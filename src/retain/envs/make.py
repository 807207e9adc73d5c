"""From what a user writes (an id, `module:id`, a callable) to a batch of environments."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import gymnasium as gym

from retain.envs.atari import Atari, is_atari, rom
from retain.envs.contract import Backend
from retain.envs.in_process import InProcess
from retain.envs.native import NATIVE
from retain.envs.options import PLAIN, EnvOptions
from retain.envs.register import register_envs
from retain.envs.wrappers import wrap
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
    env: EnvLike, options: EnvOptions = PLAIN, *, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """One gymnasium environment, wrapped as the options say.

    Raises:
        UsageError: the id is unknown (the line gives the nearest), its module cannot be imported,
            something it needs is not installed, the callable returns something else, or a wrapper
            does not fit.
    """
    made = _bare(env, render_mode)
    return wrap(made, options) if options.wrapped else made


def _bare(env: EnvLike, render_mode: str | None) -> gym.Env[Any, Any]:
    register_envs()
    if not isinstance(env, str):
        made = env()
        if not isinstance(made, gym.Env):
            raise UsageError(
                f"{env_name(env)} returned {type(made).__name__} (expected a gymnasium.Env)"
            )
        return made
    if is_atari(env):
        rom(env)
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
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


def factory(env: EnvLike, options: EnvOptions) -> Callable[[], gym.Env[Any, Any]]:
    """What makes one environment."""
    return partial(make_single, env, options)


def spaces_of(env: EnvLike, options: EnvOptions = PLAIN) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """The spaces of observations and actions that a policy would see."""
    backend = make(env, 1, options)
    backend.close()
    return backend.observation_space, backend.action_space


def make(env: EnvLike, num_envs: int, options: EnvOptions = PLAIN) -> Backend:
    """A batch of environments with explicit resets, in this process.

    Args:
        num_envs: B
    Raises:
        UsageError: as `make_single`, or `num_envs` is below 1, or a space is not supported.
    """
    if num_envs < 1:
        raise UsageError(f"num_envs is {num_envs} (expected at least 1)")
    if is_atari(env):
        return Atari(str(env), num_envs, options)
    short = env.removeprefix("retain/") if isinstance(env, str) else ""
    if options.native and short in NATIVE and not options.wrapped:
        return NATIVE[short](num_envs)
    return InProcess([factory(env, options)] * num_envs)
