"""Turns the environment that a user passes into what the rest of the library uses."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import PassiveEnvChecker

from retain.envs.contract import Backend
from retain.envs.vector import Vector, vector_makers, vector_name
from retain.errors import UsageError, notice

EnvLike: TypeAlias = (
    str | Callable[[], gym.Env[Any, Any]] | gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | Backend
)
"""A gymnasium id or `module:id`, a callable that returns an environment, a gymnasium.Env, a
gymnasium.vector.VectorEnv, or a `retain.Backend`."""

OBJECTS = (gym.Env, VectorEnv, Backend)
"""The kinds of environments that exist already when they are passed."""
PASS_A_CALLABLE = "pass a callable that makes one: lambda: MyEnv(...)"


class Copies:
    """Makes copies of an environment that `gymnasium.make` made, including its wrappers.

    Args:
        outer: wrappers around what the spec makes, the innermost first, with their arguments.
    """

    def __init__(self, spec: EnvSpec, outer: tuple[tuple[Any, dict[str, Any]], ...] = ()) -> None:
        self.spec, self.outer = spec, outer
        self.__qualname__ = spec.id

    def __call__(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """Makes another copy."""
        env = gym.make(self.spec, disable_env_checker=True, **kwargs)
        for wrapper, arguments in self.outer:
            env = wrapper(env, **arguments)
        return env


def env_name(env: EnvLike) -> str:
    """A name for messages, presets and run folders."""
    if isinstance(env, str):
        return env
    if isinstance(env, Backend):
        return env.name or type(env).__name__
    if isinstance(env, VectorEnv):
        return vector_name(env)
    if isinstance(env, gym.Env):
        return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    return getattr(env, "__qualname__", type(env).__qualname__).replace("<", "").replace(">", "")


def given(env: Any, asked: Mapping[str, Any]) -> tuple[EnvLike, dict[str, Any]]:
    """Converts an environment for the rest of the library; also returns the settings that it
    decides.

    An instance becomes its id, or a maker of copies, if gymnasium can make it again; otherwise it
    stays the only environment. A vector environment becomes a `Vector`.

    Args:
        asked: settings by name; an environment that exists already takes no `env_kwargs`.
    Raises:
        UsageError: the value is not an environment.
    """
    settings: dict[str, Any] = {}
    if asked.get("env_kwargs") and isinstance(env, OBJECTS):
        raise UsageError(
            f"env_kwargs cannot apply: {env_name(env)} exists already (expected an id or a "
            "callable)"
        )
    if isinstance(env, gym.Env):
        env, settings = _instance(env)
    elif isinstance(env, VectorEnv):
        env, settings = _vector(env)
    elif isinstance(env, Backend):
        settings = {"num_envs": env.num_envs}
    elif not (isinstance(env, str) or callable(env)):
        raise UsageError(
            f"env is {type(env).__name__} (expected a gymnasium id, module:id, a callable that "
            "returns an environment, a gymnasium.Env, a gymnasium.vector.VectorEnv or a "
            "retain.Backend)"
        )
    return env, settings


def given_again(
    env: EnvLike, saved: str | None, kwargs: dict[str, Any]
) -> tuple[EnvLike, dict[str, Any]]:
    """The environment and `env_kwargs` to use for something that was saved with another
    environment.

    Args:
        saved: the id that was saved; None stands for an object.
        kwargs: the saved `env_kwargs`; another environment does not take them, nor does an object.
    """
    same = env == saved if isinstance(env, str) else saved is None and not isinstance(env, OBJECTS)
    env, decided = given(env, {})
    return env, decided.get("env_kwargs", kwargs if same else {})


def wrong_number(env: gym.Env[Any, Any] | Backend, wanted: int) -> UsageError:
    """The error for an object that is asked to be more or fewer environments than it is."""
    if isinstance(env, Backend):
        return UsageError(f"num_envs is {wanted}, but {env_name(env)} has {env.num_envs}")
    return UsageError(
        f"num_envs is {wanted}, but gymnasium cannot make a second {env_name(env)} like this one "
        f"({_why_alone(env)}): {PASS_A_CALLABLE}"
    )


def _vector(env: VectorEnv[Any, Any, Any]) -> tuple[EnvLike, dict[str, Any]]:
    """A `Vector`; or separate copies, if the vector resets too late to be used directly."""
    settings = {"num_envs": env.num_envs}
    try:
        return Vector(env), settings
    except UsageError:
        makers = vector_makers(env)
        if makers is None or len(makers) != 1 or env.spec is None:
            raise
    single, more = _instance(makers[0]())
    if isinstance(single, gym.Env):
        raise UsageError(f"{env_name(env)} resets too late, and has no single version")
    notice(
        f"{type(env).__name__} begins an episode only with the step after an end and takes no "
        f"reset_mask: {env.num_envs} copies of {env_name(single)} are stepped instead"
    )
    return single, settings | more


def _instance(env: gym.Env[Any, Any]) -> tuple[EnvLike, dict[str, Any]]:
    """An environment's id and arguments, or a maker of copies, or the environment itself."""
    spec = env.spec
    if spec is None:
        return env, {"num_envs": 1}
    known = gym.registry.get(spec.id)
    usual = {} if known is None else known.kwargs
    # What is drawn changes no episode; a window that somebody asked for stays.
    drawn = spec.kwargs.get("render_mode") == "human"
    kwargs = {
        key: value for key, value in spec.kwargs.items()
        if (key not in usual or repr(usual[key]) != repr(value)) and (drawn or key != "render_mode")
    }  # fmt: skip
    if known is not None and _writable(kwargs) and _same(env, lambda: gym.make(spec.id, **kwargs)):
        return spec.id, {"env_kwargs": kwargs} if kwargs else {}
    copies = _copies(env)
    return (env, {"num_envs": 1}) if copies is None else (copies, {})


def _copies(env: gym.Env[Any, Any]) -> Copies | None:
    """A maker of an environment's copies: its spec, or the spec of an inner environment plus the
    wrappers around that, if the outer spec is not enough (two time limits, for example)."""
    if env.spec is None:
        return None
    copies = Copies(env.spec)
    if _same(env, copies, specs=False):
        return copies
    if not (isinstance(env, gym.Wrapper) and isinstance(env, RecordConstructorArgs)):
        return None
    inner = _copies(env.env)
    if inner is None:
        return None
    arguments = {key: value for key, value in env._saved_kwargs.items() if key != "env"}
    return Copies(inner.spec, (*inner.outer, (type(env), arguments)))


def _writable(kwargs: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(json.dumps(kwargs)) == kwargs)
    except TypeError:
        return False


def _chain(env: Any) -> list[type]:
    """The classes of an environment's wrappers and of the environment, without gymnasium's
    checker."""
    kinds = [] if isinstance(env, PassiveEnvChecker) else [type(env)]
    return kinds + (_chain(env.env) if isinstance(env, gym.Wrapper) else [])


def _same(env: gym.Env[Any, Any], make: Callable[[], Any], *, specs: bool = True) -> bool:
    """Whether `make` gives the same environment: the same wrappers, and the same spec."""
    try:
        other = make()
    except Exception:  # a wrapper that recorded no arguments, a class that moved, ...
        return False
    same = _chain(env) == _chain(other)
    if same and specs:
        same = _facts(env.spec) == _facts(other.spec)
    other.close()
    return same


def _facts(spec: Any) -> list[Any]:
    """The facts that distinguish two specs of the same id."""
    kwargs = {k: v for k, v in spec.kwargs.items() if k != "render_mode"}
    wrappers = [(one.name, repr(one.kwargs)) for one in spec.additional_wrappers]
    return [spec.max_episode_steps, spec.order_enforce, repr(kwargs), wrappers]


def _why_alone(env: gym.Env[Any, Any]) -> str:
    spec = env.spec
    if spec is None:
        return "it was not made by gymnasium.make"
    silent = [one.name for one in spec.additional_wrappers if one.kwargs is None]
    if silent:
        return f"its wrapper {silent[0]} is no gymnasium.utils.RecordConstructorArgs"
    return "its spec makes another one"
