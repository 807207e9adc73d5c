"""Settings that follow from the task, where no preset knows it, each with its reason.

What a task needs depends on its spaces and on the memory, and one number for all of them fails
somewhere: `benchmarks/defaults.py` is where these were chosen, and shows what they come to. A
preset or the user's own setting always wins; what is derived fits around it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from retain.nn.normaliser import ObsNormaliser

Space = gym.Space[Any]


@dataclass(frozen=True)
class Derived:
    """A setting, its value, and why, in half a line."""

    name: str
    value: Any
    reason: str

    def line(self, width: int = 0) -> str:
        """`name value   reason`, the value padded to `width`."""
        return f"{f'{self.name} {_shown(self.value)}':{width}}  {self.reason}"


@dataclass(frozen=True)
class Task:
    """What settings are derived from.

    Args:
        fields: of the run's and the algorithm's configuration.
        value: a setting as it is without a derived one: the user's, or the default.
        given: the names that the user set.
        reach: steps that the memory can know, the current one included: 1 is no memory, None is
            unbounded.
        observation_space, action_space: None while no environment has been made.
    """

    fields: Collection[str]
    value: Callable[[str], Any]
    given: Collection[str]
    reach: int | None
    observation_space: Space | None = None
    action_space: Space | None = None

    @property
    def remembers(self) -> bool:
        """Whether there is a memory."""
        return self.reach != 1

    @property
    def on_policy(self) -> bool:
        """Whether it learns from fresh segments."""
        return "normalise_reward" in self.fields

    @property
    def passes(self) -> bool:
        """Whether it makes several passes over a segment, held near the policy that acted."""
        return "clip_range" in self.fields


def derive(task: Task) -> tuple[Derived, ...]:
    """Every setting that follows from a task and that its user has not set."""
    found: dict[str, Derived] = {}
    for rule in (_run, _scales, _segment, _steps, _exploration, _memory):
        for derived in rule(task, lambda name: _value(task, found, name)):
            if derived.name in task.fields and derived.name not in task.given:
                found[derived.name] = derived
    return tuple(d for d in found.values() if d.value != task.value(d.name))


def settings_of(derived: tuple[Derived, ...]) -> dict[str, Any]:
    """The settings by name."""
    return {one.name: one.value for one in derived}


def _value(task: Task, found: Mapping[str, Derived], name: str) -> Any:
    return found[name].value if name in found else task.value(name)


Value = Callable[[str], Any]


def _run(task: Task, value: Value) -> Iterator[Derived]:
    if task.passes:
        yield Derived("num_envs", 16, "many short stretches of different episodes in a segment")


def _scales(task: Task, value: Value) -> Iterator[Derived]:
    space = task.observation_space
    if space is not None and ObsNormaliser(space).names:
        yield Derived("normalise_obs", True, "vectors to mean 0 and spread 1, whatever their units")
    if task.on_policy:
        yield Derived(
            "normalise_reward", True, "rewards by the return's spread, whatever their units"
        )


def _segment(task: Task, value: Value) -> Iterator[Derived]:
    if not task.on_policy:
        return
    steps, sequence = value("num_steps"), 1
    if task.remembers:
        fits = [task.value("batch_size")] if "batch_size" in task.given else []
        sequence = value("sequence_length") or _divisor(SEQUENCE, steps, *fits)
        yield Derived(
            "sequence_length", sequence, f"gradients reach so far back in segments of {steps} steps"
        )
    if task.passes:
        parts = MEMORY_MINIBATCHES if task.remembers else MINIBATCHES
        batch = max(1, value("num_envs") * steps // parts // sequence) * sequence
        yield Derived("batch_size", batch, f"a segment of all environments in {parts} minibatches")


def _steps(task: Task, value: Value) -> Iterator[Derived]:
    if task.passes:
        yield Derived("epochs", EPOCHS, "so many passes over each segment")
        rate = MEMORY_RATE if task.remembers else RATE
        why = "few, large minibatches of sequences" if task.remembers else "many small minibatches"
        yield Derived("learning_rate", rate, f"for {why}")


def _exploration(task: Task, value: Value) -> Iterator[Derived]:
    space = task.action_space
    if space is None or not task.on_policy:
        return
    if not isinstance(space, gym.spaces.Box):
        yield Derived("entropy_coef", 0.01, "keeps discrete actions from settling too early")
        return
    yield Derived("entropy_coef", 0.0, "a Gaussian's spread is learned; a bonus only inflates it")
    if space.is_bounded() and not ((space.low == -1).all() and (space.high == 1).all()):
        yield Derived(
            "scale_actions", True, "exploration means the same for every action, whatever its bounds"
        )


def _memory(task: Task, value: Value) -> Iterator[Derived]:
    if not task.remembers:
        return
    yield Derived("previous_action", True, "what happened is explained by what was done")
    yield Derived("shortcut", True, "what needs no memory need not wait for it")


SEQUENCE = 32
"""Steps of a training sequence."""
MINIBATCHES, MEMORY_MINIBATCHES = 16, 4
"""Of a segment."""
EPOCHS = 10
"""Passes over a segment."""
RATE, MEMORY_RATE = 3e-4, 1e-3
"""Adam's, with many small minibatches and with few large ones."""


def _divisor(wanted: int, *totals: int) -> int:
    """The largest number up to `wanted` that divides all of `totals`."""
    return next(n for n in range(wanted, 0, -1) if all(total % n == 0 for total in totals))


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
