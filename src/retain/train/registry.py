"""Algorithms by name; ours and a user's are registered the same way.

An algorithm is a small class that binds a configuration and an update to the agent's interface:

    @retain.register_algorithm("mine")
    class Mine(retain.OnPolicyAgent):
        config_kind = MineConfig
        update_kind = MineUpdate

It trains as `Mine(env)`, as `retain train mine` once its module is imported, and as `retain train
module:Mine` anywhere.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from retain.errors import UsageError, nearest, unknown
from retain.train.agent import Agent

AGENTS: dict[str, type[Agent]] = {}
"""Every registered algorithm by its name."""

Kind = TypeVar("Kind", bound=type[Agent])


def register_algorithm(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes an `Agent` class known by `name` (`retain train name`).

    Raises:
        UsageError: another class has the name, or the class is not an `Agent`.
    """

    def enter(kind: Kind) -> Kind:
        if not (isinstance(kind, type) and issubclass(kind, Agent)):
            raise UsageError(
                f"{kind!r} is not an algorithm (expected a subclass of retain.OnPolicyAgent, "
                "retain.OffPolicyAgent or retain.Agent)"
            )
        before = AGENTS.get(name)
        if before is not None and algorithm_path(before) != algorithm_path(kind):
            raise UsageError(f"an algorithm called {name!r} already exists: {before.__module__}")
        kind.algo = name
        AGENTS[name] = kind
        return kind

    return enter


def algorithm_path(kind: type[Agent]) -> str:
    """The `module:name` that imports the class."""
    return f"{kind.__module__}:{kind.__qualname__}"


def algorithm_class(name: str) -> type[Agent]:
    """The algorithm called `name`, or the one that `module:name` imports.

    Raises:
        UsageError: there is no such algorithm; the line gives the nearest.
    """
    if name in AGENTS:
        return AGENTS[name]
    if ":" not in name:
        raise unknown("algorithm", name, AGENTS)
    module, _, attribute = name.partition(":")
    try:
        found: Any = vars(import_module(module))
    except ModuleNotFoundError as error:
        raise UsageError(f"cannot import {error.name!r} for the algorithm {name!r}") from None
    kind = found.get(attribute)
    if kind not in AGENTS.values():
        known = [key for key, value in found.items() if value in AGENTS.values()]
        raise UsageError(
            f"{module} has no algorithm {attribute!r}{nearest(attribute, known)} (expected a class "
            "with @retain.register_algorithm)"
        )
    return kind  # type: ignore[no-any-return]
