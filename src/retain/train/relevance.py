"""Refuses a setting that would do nothing, with the reason.

A setting's declaration says what it needs (`retain.settings.setting`): the name of another setting
or property that must be on, or of one of the `CONDITIONS` here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym

from retain.envs.atari import is_atari
from retain.errors import UsageError
from retain.memory import memory_class
from retain.memory.registry import FIELDS, fields_of
from retain.nn.normaliser import can_normalise
from retain.settings import default_of

Space = gym.Space[Any]


@dataclass(frozen=True)
class Situation:
    """The facts that decide whether a setting matters.

    Args:
        algo: the algorithm's name.
        env: the environment that was given.
        parts: the configurations, each a dataclass.
        observation_space: None before an environment has been made; settings that depend on it
            pass.
        action_space: None before an environment has been made.
        receptive_field: the memory's; None if it is unbounded or not made yet.
    """

    algo: str
    env: Any
    parts: tuple[Any, ...]
    observation_space: Space | None = None
    action_space: Space | None = None
    receptive_field: int | None = None

    def value(self, name: str) -> Any:
        """The value of a setting or property."""
        return next(getattr(part, name) for part in self.parts if hasattr(part, name))

    def observes(self, wanted: Callable[[gym.spaces.Box], bool]) -> bool:
        """Whether the observation has a Box that meets a condition."""
        if self.observation_space is None:
            return True
        return any(wanted(box) for box in _boxes(self.observation_space))


def _boxes(space: Space) -> Iterable[gym.spaces.Box]:
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        inner = space.spaces.values() if isinstance(space, gym.spaces.Dict) else space.spaces
        for part in inner:
            yield from _boxes(part)
    elif isinstance(space, gym.spaces.Box):
        yield space


def _several_inputs(now: Situation) -> bool:
    """Whether actor and critic have anything before their MLPs that could be separate."""
    if now.value("encoder_hidden") or now.value("encoder") != "auto" or now.value("remembers"):
        return True
    space = now.observation_space
    return not (space is None or (isinstance(space, gym.spaces.Box) and len(space.shape) == 1))


def _read_by_memory(now: Situation) -> list[str]:
    return fields_of(memory_class(now.value("memory")))


def _in_sequences(now: Situation) -> bool:
    return bool(now.value("remembers")) and memory_class(now.value("memory")).unrolls


CONDITIONS: dict[str, tuple[Callable[[Situation], bool], str]] = {
    "memory": (
        lambda now: bool(now.value("remembers")),
        "there is no memory; choose one with memory, e.g. lstm",
    ),
    "sequences": (
        _in_sequences,
        "memory {memory!r} trains on single steps; choose one that trains on sequences, e.g. lstm",
    ),
    "unbounded": (
        lambda now: _in_sequences(now) and now.receptive_field is None,
        "memory {memory!r} stores no carry; choose one that does, e.g. lstm",
    ),
    "has_actor": (lambda now: bool(now.value("has_actor")), "{algo} has no actor"),
    "tuned_alpha": (
        lambda now: now.value("alpha") is None,
        "alpha is {alpha}, a fixed weight; leave alpha out to have it tuned",
    ),
    "box_actions": (
        lambda now: now.action_space is None or isinstance(now.action_space, gym.spaces.Box),
        "the actions are {action_space}; the setting needs Box actions",
    ),
    "atari": (
        lambda now: now.env is None or is_atari(now.env),
        "it applies only to Atari (ALE/...)",
    ),
    "images": (
        lambda now: now.observes(lambda box: len(box.shape) == 3),
        "no part of the observation is an image",
    ),
    "normalised": (
        lambda now: now.observes(can_normalise),
        "no part of the observation is a vector of floats or a small image of bytes",
    ),
    "ray_workers": (
        lambda now: bool(now.value("workers")) and now.value("worker_engine") == "ray",
        "workers is {workers}, worker_engine {worker_engine!r}; it is for workers of Ray",
    ),
    "cpu": (
        lambda now: str(now.value("device")).startswith("cpu"),
        "device is {device!r}, and the kernels are for a CPU",
    ),
    "several_inputs": (
        _several_inputs,
        "with neither a memory nor an encoder there is nothing to separate",
    ),
}
"""Conditions by name: the test, and the reason if it fails."""


def irrelevant(names: Iterable[str], now: Situation) -> dict[str, str]:
    """The settings among `names` that would do nothing, each with a reason.

    A setting with its default value asks for nothing, and passes.
    """
    found: dict[str, str] = {}
    declared = {f.name: f for part in now.parts for f in fields(part)}
    for name in names:
        own = declared[name]
        value = now.value(name)
        if value == default_of(own):
            continue
        reason = _reason(name, own.metadata.get("needs"), now)
        if reason is not None:
            found[name] = reason
    return found


def _reason(name: str, needs: str | None, now: Situation) -> str | None:
    # One that says what it needs serves other parts than the memory as well.
    if needs is None and name in FIELDS.values() and name not in _read_by_memory(now):
        if not now.value("remembers"):
            return CONDITIONS["memory"][1]
        return f"memory {now.value('memory')!r} does not read it"
    if needs is None:
        return None
    if needs in CONDITIONS:
        test, text = CONDITIONS[needs]
        return None if test(now) else text.format_map(_Values(now))
    return None if now.value(needs) else f"{needs} is {now.value(needs)!r}"


class _Values(dict[str, Any]):
    """The values that the texts of `CONDITIONS` refer to."""

    def __init__(self, now: Situation) -> None:
        super().__init__(algo=now.algo, env=now.env, action_space=now.action_space)
        self.now = now

    def __missing__(self, name: str) -> Any:
        return self.now.value(name)


def check_relevant(names: Iterable[str], now: Situation, source: str = "") -> None:
    """Refuses the first setting that would do nothing.

    Args:
        source: the place that the settings were read from; "" for the caller's own.
    Raises:
        UsageError: names the setting and the reason.
    """
    for name, reason in irrelevant(names, now).items():
        said = f"{source}: " if source else ""
        raise UsageError(f"{said}{name} {now.value(name)!r} would do nothing: {reason}")
