"""Settings over an agent's life: which may change between parts of its training, and why not."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, NoReturn

from retain.envs.options import EnvOptions
from retain.errors import UsageError
from retain.nn.actor_critic import ActorCriticConfig
from retain.nn.torso import NetworkConfig
from retain.train.config import RunConfig, check_names, field_names, parts_of, values_of

FREE = ("workers", "worker_timeout", "worker_engine", "worker_cpus", "native")
"""The environment options that change nothing in an episode."""
NETWORKS = "the saved networks are built with it"
EPISODES = "the saved episodes are played with it"


def refuse_assignment(name: str) -> NoReturn:
    """Explains why the settings of a living agent cannot be assigned.

    Raises:
        UsageError: always; says where settings can change.
    """
    raise UsageError(
        f"{name} cannot be assigned, since that would have no effect: settings change between two "
        "parts of the training, retain.load(path, learning_rate=...) or retain.resume(run, ...)"
    )


def guard(config_kind: type[Any]) -> None:
    """Makes a frozen configuration explain how settings change if a field is assigned."""

    def refuse(self: object, name: str, value: object) -> NoReturn:
        refuse_assignment(name)

    config_kind.__setattr__ = refuse  # type: ignore[assignment]


def fixed(config_kind: type[Any]) -> dict[str, str]:
    """The settings that keep their values for an agent's life, each with the reason."""
    found = dict.fromkeys(field_names(ActorCriticConfig), NETWORKS)
    found |= dict.fromkeys((n for n in field_names(EnvOptions) if n not in FREE), EPISODES)
    found |= {"seed": "every episode's seed derives from it", "num_envs": EPISODES}
    for field in (*fields(config_kind), *fields(RunConfig)):
        if field.metadata.get("fixed") is not None:
            found[field.name] = field.metadata["fixed"]
    known = field_names(config_kind, RunConfig)
    return {name: reason for name, reason in found.items() if name in known}


def check_free(names: Iterable[str], before: Mapping[str, Any], kind: type[Any]) -> None:
    """Refuses settings that cannot change during an agent's life.

    Args:
        before: the agent's settings so far.
        kind: class of the algorithm's configuration.
    Raises:
        UsageError: a setting is fixed; the line says why, and what may change.
    """
    reasons = fixed(kind)
    for name in names:
        if name in reasons:
            free = [f for f in field_names(kind) if f not in reasons]
            raise UsageError(
                f"{name} stays {before[name]!r}: {reasons[name]} (what may change: "
                f"{', '.join(free)})"
            )


def changed(
    run: RunConfig, config: NetworkConfig, changes: Mapping[str, Any]
) -> tuple[RunConfig, Any]:
    """A saved agent's configurations with new values for some settings.

    Raises:
        UsageError: a name is unknown, a value does not fit, or a fixed setting would change.
    """
    kind = type(config)
    check_names(changes, field_names(RunConfig, kind))
    before = values_of(run, config)
    after = parts_of({**before, **changes}, RunConfig, kind)
    values = values_of(*after)
    check_free([name for name in changes if values[name] != before[name]], before, kind)
    return after[0], after[1]
