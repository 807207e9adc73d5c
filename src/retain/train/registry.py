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

from retain.errors import UsageError
from retain.registry import Kind, Registry
from retain.train.agent import Agent

_REGISTRY = Registry[Agent](
    "an algorithm",
    Agent,  # type: ignore[type-abstract]
    "retain.OnPolicyAgent, retain.OffPolicyAgent or retain.Agent",
)
AGENTS = _REGISTRY.classes
"""Every registered algorithm by its name."""


def register_algorithm(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes an `Agent` class known by `name` (`retain train name`).

    Raises:
        UsageError: another class has the name, or the class is not an `Agent`.
    """

    def enter(kind: Kind) -> Kind:
        _REGISTRY.register(name)(kind)
        kind.algo = name
        return kind

    return enter


def algorithm_class(name: str) -> type[Agent]:
    """The algorithm called `name`, or the one that `module:name` imports.

    Raises:
        UsageError: there is no such algorithm (the line gives the nearest), or nobody registered
            it.
    """
    kind = _REGISTRY.find(name)
    if kind not in AGENTS.values():
        raise UsageError(f"{name} is not registered (expected @retain.register_algorithm on it)")
    return kind
