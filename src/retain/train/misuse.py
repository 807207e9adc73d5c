"""One clear line for a call that Python itself would refuse, such as `learn(callback=...)`."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from retain.errors import UsageError, nearest
from retain.train.foreign import POLICIES, answer, shown

P = ParamSpec("P")
R = TypeVar("R")


def explained(example: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for public methods: an unknown or missing argument raises a `UsageError` with the
    name that was probably meant.

    Args:
        example: a correct call, for the line.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return method(*args, **kwargs)
            except TypeError as error:
                trace = error.__traceback__
                if trace is None or trace.tb_next is not None:  # it was raised inside
                    raise
                line = _line(method, args, kwargs)
            raise UsageError(f"{line}: {example}")

        return call

    return decorate


def _line(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The line about a call that Python refused."""
    parameters = dict(inspect.signature(method).parameters)
    if parameters.pop("self", None) is not None:
        args = args[1:]
    name = method.__name__
    for given in kwargs:
        if given in parameters:
            continue
        theirs = shown(answer(given, list(parameters), kwargs[given]))
        if theirs:
            return f"{name} has no argument {given!r}, {theirs}"
        return f"{name} has no argument {given!r}{nearest(given, parameters)}"
    kind = inspect.Parameter
    places = [p for p in parameters.values() if p.kind is kind.POSITIONAL_OR_KEYWORD]
    missing = [p.name for p in places[len(args) :] if p.default is kind.empty]
    missing = [one for one in missing if one not in kwargs]
    if missing and len(args) <= len(places):
        return f"{name} needs {missing[0]}"
    count = f"{len(places)} argument{'s' * (len(places) != 1)}"
    return f"{name} takes {count} by position, the rest by name"


def check_first(kind: str, env: object, rest: tuple[object, ...]) -> None:
    """Checks that only the environment is given by position.

    Raises:
        UsageError: the first argument is a policy of Stable-Baselines3, or more arguments follow.
    """
    if isinstance(env, str) and env in POLICIES:
        after = repr(rest[0]) if rest else "env"
        raise UsageError(
            f"{env!r} is a policy of Stable-Baselines3, and retain has none: the environment "
            f"comes first, and the settings define the networks: {kind}({after}, "
            f'memory="none")'
        )
    if rest:
        raise UsageError(
            f"{kind} takes only the environment by position, the rest by name (found {rest[0]!r}): "
            f"{kind}(env, num_envs=8)"
        )
