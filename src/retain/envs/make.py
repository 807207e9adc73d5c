"""Turns a user's id, callable or object into a batch of environments."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from retain.envs.atari import Atari, is_atari, rom
from retain.envs.contract import Backend
from retain.envs.given import Copies, EnvLike, env_name, wrong_number
from retain.envs.in_process import InProcess
from retain.envs.native import NATIVE, OURS
from retain.envs.options import PLAIN, WRAPPERS, EnvOptions
from retain.envs.register import register_envs
from retain.envs.single import Single
from retain.envs.vector import Vector, vector_makers
from retain.envs.wrappers import readable, wrap
from retain.errors import UsageError, nearest

__all__ = ["EnvLike", "env_name", "factory", "fresh", "make", "make_single", "separate"]

EXTRAS = {"box2d": "box2d", "mujoco": "mujoco", "ale_py": "atari"}
HOMES = {"minigrid-": "minigrid", "babyai-": "minigrid", "popgym-": "popgym"}
"""Modules that register well-known ids, by the ids' first letters."""
CLOSE = 0.85
"""Likeness above which a name was probably meant, instead of merely being the nearest."""


def make_single(
    env: EnvLike, options: EnvOptions = PLAIN, *, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """Makes one gymnasium environment, wrapped as the options say.

    Raises:
        UsageError: the id is unknown (the line gives the nearest), its module cannot be imported, a
            dependency is not installed, the callable returns something else, or a wrapper does not
            fit.
    """
    made = _bare(env, options, render_mode)
    return readable(wrap(made, options) if options.wrapped else made)


def _bare(env: EnvLike, options: EnvOptions, render_mode: str | None) -> gym.Env[Any, Any]:
    register_envs()
    kwargs = dict(options.env_kwargs)
    if render_mode is not None and isinstance(env, str | Copies):
        kwargs["render_mode"] = render_mode
    if isinstance(env, str):
        return _by_id(env, kwargs)
    if isinstance(env, gym.Env):
        return env
    one = separate(env)
    if one is None:
        raise UsageError(f"{env_name(env)} has no environment that can be used alone")
    made = _call(one, kwargs)  # type: ignore[arg-type]
    if not isinstance(made, gym.Env):
        raise UsageError(
            f"{env_name(env)} returned {type(made).__name__} (expected a gymnasium.Env)"
        )
    return _with_spaces(env, made)


def _call(make: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """The environment that a callable makes from the arguments."""
    try:
        return make(**kwargs)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        if kwargs and isinstance(error, TypeError):
            text = f"{env_name(make)} does not take env_kwargs {kwargs}: {error}"
            raise UsageError(text) from None
        raise UsageError(_failed(make, error)) from error


def _by_id(env: str, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    if is_atari(env):
        rom(env)
    try:
        return _with_spaces(env, gym.make(env, disable_env_checker=True, **kwargs))
    except gym.error.DependencyNotInstalled as error:
        raise UsageError(_missing(env, error)) from None
    except (gym.error.UnregisteredEnv, gym.error.Error) as error:
        if env.split(":")[-1] in gym.registry:
            raise UsageError(f"cannot make {env!r}: {error}") from None
        raise UsageError(_unknown(env)) from None
    except ModuleNotFoundError as error:
        module = error.name or env.split(":")[0]
        raise UsageError(f"cannot import {module!r} for the environment {env!r}") from None
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(_failed(env, error)) from error


def _failed(env: EnvLike, error: BaseException) -> str:
    """The error line for an environment's constructor that raised."""
    if isinstance(error, SystemExit):
        return f"cannot make {env_name(env)!r}: its constructor called sys.exit({error.code!r})"
    text = " ".join(str(error).split())
    name = "" if isinstance(error, TypeError) else f"{type(error).__name__}: "
    return f"cannot make {env_name(env)!r}: {name}{text}"


def _with_spaces(env: EnvLike, made: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(made, name, None), gym.spaces.Space):
            raise UsageError(f"{env_name(env)!r} has no {name} (expected a gymnasium.spaces.Space)")
    return made


def _unknown(env: str) -> str:
    module, _, name = env.rpartition(":")
    text = f"unknown environment {env!r}"
    if module:
        close = nearest(name, gym.registry)
        return f"{text}: importing {module!r} registers no {name!r}{close}"
    home = next((home for start, home in HOMES.items() if name.lower().startswith(start)), None)
    if home is not None:
        return f"{text}; did you mean '{home}:{name}'?"
    meant = nearest(name, gym.registry, likeness=CLOSE)
    hint = f"; if a module of yours registers it: 'module:{name}'"
    far = "" if meant else nearest(name, gym.registry)
    return f"{text}{meant}{hint}{far}"


def _missing(env: str, error: Exception) -> str:
    spec = gym.registry.get(env.split(":")[-1])
    text = f"{spec.entry_point if spec else ''} {spec.kwargs if spec else ''} {error}".lower()
    for word, extra in EXTRAS.items():
        if word in text or (word == "box2d" and "lunarlander" in text):
            return f"{env} needs an extra that is not installed: pip install 'retain[{extra}]'"
    return f"{env} needs something that is not installed: {error}"


def factory(env: EnvLike, options: EnvOptions) -> Callable[[], gym.Env[Any, Any]]:
    """A function that makes one environment."""
    return partial(make_single, env, options)


def spaces_of(env: EnvLike, options: EnvOptions = PLAIN) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """The observation and action space that a policy would see."""
    backend = make(env, 1, options)
    backend.close()
    return backend.observation_space, backend.action_space


def make(env: EnvLike, num_envs: int, options: EnvOptions = PLAIN) -> Backend:
    """A batch of environments with explicit resets, in this process.

    Args:
        num_envs: B, number of environments.
    Raises:
        UsageError: see `make_single`; or `num_envs` is below 1, an object has another number of
            environments, or a space is not supported.
    """
    if num_envs < 1:
        raise UsageError(f"num_envs is {num_envs} (expected at least 1)")
    if isinstance(env, VectorEnv):
        env = Vector(env)
    if isinstance(env, gym.Env | Backend):
        return _the_one(env, num_envs, options)
    if is_atari(env):
        return Atari(str(env), num_envs, options)
    batch = _batch(env, options) if isinstance(env, str) else None
    if batch is not None:
        return batch(num_envs)
    return InProcess([factory(env, options)] * num_envs)


def _the_one(env: gym.Env[Any, Any] | Backend, num_envs: int, options: EnvOptions) -> Backend:
    """An object that cannot be copied, as a backend, with wrappers around it if needed."""
    if num_envs != (env.num_envs if isinstance(env, Backend) else 1):
        raise wrong_number(env, num_envs)
    if isinstance(env, gym.Env):
        return InProcess([factory(env, options)])
    for name in WRAPPERS:
        if getattr(options, name) != getattr(PLAIN, name):
            raise UsageError(
                f"{name} cannot be used with {env_name(env)}: wrap its environments yourself"
            )
    return env


def _batch(env: str, options: EnvOptions) -> Callable[[int], Backend] | None:
    """A maker of the batch registered under a name, if there is one and it fits the options."""
    module, _, name = env.rpartition(":")
    if module:
        _import(module, env)
    name = name.removeprefix("retain/")
    if name not in NATIVE or not options.native or options.wrapped:
        return None
    if not options.env_kwargs:
        return NATIVE[name]
    if name in gym.registry and name not in OURS:  # these arguments are gymnasium's version's
        return None
    return lambda num_envs: _call(partial(NATIVE[name], num_envs), options.env_kwargs)


def _import(module: str, env: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise UsageError(f"cannot import {missing!r} for the environment {env!r}") from None


def fresh(env: EnvLike, num_envs: int, options: EnvOptions = PLAIN) -> Backend | None:
    """Like `make`, but never returns the object itself; None if there can be no other one."""
    if isinstance(env, VectorEnv):
        env = Vector(env)
    if isinstance(env, Backend):
        return env.fresh(num_envs)
    return None if isinstance(env, gym.Env) else make(env, num_envs, options)


def separate(env: EnvLike) -> str | Callable[[], gym.Env[Any, Any]] | None:
    """A maker of single environments of this kind; None if an object is the only one."""
    if isinstance(env, Vector):
        env = env.env
    if isinstance(env, VectorEnv):
        makers = vector_makers(env)
        return None if makers is None else makers[0]
    if isinstance(env, Backend):
        one = env.fresh(1)
        if one is None:
            return None
        one.close()
        return partial(Single, make=env.fresh)  # type: ignore[arg-type]
    return None if isinstance(env, gym.Env) else env
