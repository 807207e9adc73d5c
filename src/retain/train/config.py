"""The run's own settings, and reading any configuration from names and values."""

import json
import math
import typing
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from retain.envs.options import EnvOptions
from retain.errors import UsageError, check_range, nearest
from retain.settings import setting
from retain.train.foreign import answer, shown
from retain.typed import describe_type, fits

Config = TypeVar("Config")

MOST_ENVS = 65_536
"""The largest number of environments in a run."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(EnvOptions):
    """Where a run trains, for how long, and how."""

    seed: int = 1
    """Seed of the run: parameters, actions, minibatches and every episode."""
    num_envs: int = 8
    """Environments stepped together. With shards, all of theirs."""
    shards: int = setting(1, fixed="every shard has its own environments and noise")
    """Equal parts that the environments and minibatches are cut into, for one rank or several:
    numbers depend on the shards, not on the ranks. By default as many as there are ranks."""
    threads: int = 1
    """CPU threads of torch; small networks are fastest with 1. 0 = torch's own choice."""
    device: str = "cpu"
    """cpu, cuda, cuda:0, ..."""
    checkpoint_every: int = 50_000
    """Environment steps between checkpoints."""
    keep: int = 3
    """Number of recent checkpoints to keep; the best one is kept as well."""
    tensorboard: bool = True
    """Write TensorBoard events into the run folder."""
    record_episodes: bool = True
    """Keep every episode's seed and actions in the run folder, for `retain playback`."""

    log_info: tuple[str, ...] = ()
    """Entries of an episode's last `info` to log, as means over 100 episodes like the return;
    `is_success` is logged wherever an environment has it."""

    eval_every: int = 0
    """Environment steps between evaluations in separate environments; if on, these evaluations
    choose the best checkpoint. 0 turns them off."""
    eval_episodes: int = setting(20, needs="eval_every")
    """Whole episodes in each evaluation; every evaluation plays the same ones."""

    callbacks: tuple[str, ...] = ()
    """Callbacks to add to the usual ones: wandb, mlflow, trackio, or module:Name for your own."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "num_envs", low=1, high=MOST_ENVS)
        check_range(self, "shards", low=1)
        if self.num_envs % self.shards:
            near = max(1, round(self.num_envs / self.shards)) * self.shards
            raise UsageError(
                f"num_envs {self.num_envs} cannot be cut into {self.shards} shards; nearest that "
                f"can: {near}"
            )
        check_range(self, "checkpoint_every", "keep", "eval_episodes", low=1)
        check_range(self, "eval_every", low=0)
        check_range(self, "seed", low=0, high=2**63 - 1)
        check_range(self, "threads", low=0, high=1024)

    def env_options(self) -> EnvOptions:
        """The part that environments are made from."""
        return EnvOptions(**{f.name: getattr(self, f.name) for f in fields(EnvOptions)})


def build(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from names and values.

    Raises:
        UsageError: a value has another type than its field; the line names the field and, for a
            closed choice, the nearest one.
    """
    hints = typing.get_type_hints(kind)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        value = tuple(value) if isinstance(value, list) else value
        if not fits(value, hints[name]):
            close = ""
            if typing.get_origin(hints[name]) is typing.Literal:
                close = nearest(str(value), typing.get_args(hints[name]))
            raise UsageError(f"{name} is {value!r} (expected {describe_type(hints[name])}){close}")
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, float) and not math.isfinite(entry):
                raise UsageError(f"{name} is {value} (expected a finite number)")
        checked[name] = value
    return kind(**checked)


def field_names(*kinds: type[Any]) -> list[str]:
    """The field names of configurations, in order."""
    return [field.name for kind in kinds for field in fields(kind)]


def parts_of(values: Mapping[str, Any], *kinds: type[Any]) -> tuple[Any, ...]:
    """One configuration of each kind, from names and values of all of them.

    Raises:
        UsageError: see `build`.
    """
    own = [set(field_names(kind)) for kind in kinds]
    return tuple(
        build(kind, {name: value for name, value in values.items() if name in names})
        for kind, names in zip(kinds, own, strict=True)
    )


def values_of(*parts: Any) -> dict[str, Any]:
    """Every field's value in some configurations."""
    return {name: getattr(part, name) for part in parts for name in field_names(type(part))}


def check_names(values: Mapping[str, Any], known: Collection[str]) -> None:
    """Checks that every name is known.

    Raises:
        UsageError: names the first unknown one and its likely meaning: a name from another library
            is answered with ours, any other with the nearest.
    """
    for name, value in values.items():
        if name in known:
            continue
        theirs = shown(answer(name, known, value, values))
        if theirs:
            raise UsageError(f"unknown config field {name!r}, {theirs}")
        raise UsageError(
            f"unknown config field {name!r}{nearest(name, known) or '; see --help for all'}"
        )


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON values."""
    result: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return result
