"""Derives settings from the task, if no preset knows it, each with a reason.

The right settings depend on the task's spaces and on the memory, and a single number for all tasks
fails somewhere. `benchmarks/defaults.py` is where these were chosen, and shows their results. A
preset or the user's own setting always wins; derived settings adapt to it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym

from retain.memory import memory_class
from retain.nn.encoders import is_image, is_small_image
from retain.nn.normaliser import ObsNormaliser

Space = gym.Space[Any]


@dataclass(frozen=True)
class Derived:
    """A setting, its value, and a short reason."""

    name: str
    value: Any
    reason: str

    @property
    def flag(self) -> str:
        """The setting as a command-line flag."""
        name = self.name.replace("_", "-")
        if isinstance(self.value, bool):
            return f"--{name}" if self.value else f"--no-{name}"
        shown = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"--{name} {shown}"


@dataclass(frozen=True)
class Task:
    """The facts from which settings are derived.

    Args:
        values: the value of every field of the run and the algorithm, before anything is derived.
        given: the fields that the user set.
        remembers: whether there is a memory.
        observation_space, action_space: None while no environment has been made.
    """

    values: Mapping[str, Any]
    given: Collection[str]
    remembers: bool
    observation_space: Space | None = None
    action_space: Space | None = None

    @property
    def on_policy(self) -> bool:
        """Whether the algorithm learns from fresh segments."""
        return "buffer_size" not in self.values

    @property
    def acts_on_values(self) -> bool:
        """Whether a replay teaches action values and the highest of them acts."""
        return not self.on_policy and "epsilon" in self.values

    @property
    def sees_images(self) -> bool:
        """Whether a convolutional network reads a part of the observation."""
        return self.sees_small_images or self._shows(is_image)

    @property
    def sees_small_images(self) -> bool:
        """Whether a convolutional network reads a small image in the observation."""
        return self._shows(is_small_image)

    def _shows(self, kind: Callable[[Space], bool]) -> bool:
        space = self.observation_space
        entries = space.spaces.values() if isinstance(space, gym.spaces.Dict) else [space]
        shown = any(entry is not None and kind(entry) for entry in entries)
        return shown and self.values["encoder"] != "mlp"

    @property
    def passes(self) -> bool:
        """Whether the algorithm makes several passes over a segment, held near the policy that
        acted."""
        return "clip_range" in self.values


def derive(task: Task) -> tuple[Derived, ...]:
    """Every setting that follows from a task and that the user has not set."""
    found: dict[str, Derived] = {}
    for rule in (_run, _scales, _segment, _steps, _replay, _exploration, _memory):
        for derived in rule(task, lambda name: _value(task, found, name)):
            if derived.name in task.values and derived.name not in task.given:
                found[derived.name] = derived
    return tuple(d for d in found.values() if d.value != task.values[d.name])


def task_of(
    kinds: tuple[type[Any], ...], known: Mapping[str, Any], given: Collection[str], *spaces: Space
) -> Task:
    """The task of some configurations.

    Args:
        kinds: dataclasses of settings, one of them the algorithm's.
        known: settings that are not the dataclasses' defaults.
        given: those of the `known` settings that the user set.
        spaces: observation and action space, once they are known.
    """
    values: dict[str, Any] = {f.name: f.default for kind in kinds for f in fields(kind)}
    values |= known
    remembers = memory_class(values["memory"]).receptive_field != 1
    return Task(values, given, remembers, *spaces)


def table(derived: Sequence[Derived]) -> list[str]:
    """One line per setting: the flag, and the reason."""
    width = max((len(one.flag) for one in derived), default=0)
    return [f"{one.flag:{width}}  {one.reason}" for one in derived]


def settings_of(derived: tuple[Derived, ...]) -> dict[str, Any]:
    """The settings by name."""
    return {one.name: one.value for one in derived}


def _value(task: Task, found: Mapping[str, Derived], name: str) -> Any:
    return found[name].value if name in found else task.values[name]


Value = Callable[[str], Any]


def _run(task: Task, value: Value) -> Iterator[Derived]:
    if task.passes:
        yield Derived("num_envs", 16, "a segment mixes short stretches of many episodes")


def _scales(task: Task, value: Value) -> Iterator[Derived]:
    space = task.observation_space
    if space is not None and ObsNormaliser(space).names:
        yield Derived("normalise_obs", True, "gives vectors and small images mean 0 and spread 1")
        if not task.on_policy and not task.acts_on_values and value("normalise_obs"):
            why = "well-sized vectors stay as they are, and the replay's with them"
            yield Derived("normaliser", "steady", why)
    if "normalise_reward" in task.values:
        why = "the return's spread" if task.on_policy else "their size, if that is far from 1"
        yield Derived("normalise_reward", True, f"divides rewards by {why}")


def _segment(task: Task, value: Value) -> Iterator[Derived]:
    if not task.on_policy:
        return
    if task.passes and task.sees_small_images:
        yield Derived("num_steps", IMAGE_STEPS, "images of few episodes would be learned by heart")
    steps, sequence = value("num_steps"), 1
    if task.remembers:
        batch = task.values["batch_size"]
        kept = batch is not None and (not task.passes or "batch_size" in task.given)
        fits = [batch] if kept else []
        sequence = _possible(value("sequence_length") or _divisor(SEQUENCE, steps, *fits))
        yield Derived(
            "sequence_length",
            sequence,
            f"gradients reach this far back in segments of {steps} steps",
        )
    if task.passes:
        parts = MEMORY_MINIBATCHES if task.remembers else MINIBATCHES
        batch = max(1, value("num_envs") * steps // parts // sequence) * sequence
        yield Derived("batch_size", batch, f"a segment of all environments in {parts} minibatches")


def _steps(task: Task, value: Value) -> Iterator[Derived]:
    if task.passes:
        epochs = MEMORY_EPOCHS if task.remembers else EPOCHS
        why = "passes over each segment, fewer with sequences"
        if task.sees_images:
            epochs, why = IMAGE_EPOCHS, "passes over each segment; more overfit its images"
        yield Derived("epochs", epochs, why)
        rate = MEMORY_RATE if task.remembers else RATE
        why = "few, large minibatches of sequences" if task.remembers else "many small minibatches"
        yield Derived("learning_rate", rate, f"for {why}")


def _replay(task: Task, value: Value) -> Iterator[Derived]:
    if not task.acts_on_values or not task.remembers:
        return
    sequence = _possible(value("sequence_length"))
    batch = max(1, SEQUENCES * SEQUENCE // sequence) * sequence
    yield Derived("batch_size", batch, "errors of a few sequences are much alike")
    yield Derived("update_ratio", 0.25, "fewer, larger updates learned more than many small ones")
    yield Derived("n_step", 5, "a reward reaches the values of five steps at once")
    yield Derived("tau", 0.01, "targets keep up although updates are few")
    yield Derived("learning_rate", 5e-4, "the highest of all values acts, errors included")
    yield Derived("lr_schedule", "linear", "a policy found early would be lost again later")


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
            "scale_actions", True, "exploration is as wide for every action, whatever its bounds"
        )


def _memory(task: Task, value: Value) -> Iterator[Derived]:
    if not task.remembers:
        return
    yield Derived("previous_action", True, "the last action explains what happened")
    yield Derived("shortcut", True, "the current input reaches the heads directly")
    if task.passes:
        yield Derived("separate_memory", True, "the critic's errors leave the actor's alone")


SEQUENCE = 32
"""Steps of a training sequence."""
SEQUENCES = 16
"""Sequences of that length in a gradient step on action values."""
MINIBATCHES, MEMORY_MINIBATCHES = 16, 8
"""Number of minibatches in a segment."""
EPOCHS, MEMORY_EPOCHS, IMAGE_EPOCHS = 10, 4, 4
"""Passes over a segment."""
IMAGE_STEPS = 512
"""Steps of a segment where small images are seen."""
RATE, MEMORY_RATE = 3e-4, 1e-3
"""Adam's step size, with many small minibatches and with few large ones."""


def _possible(sequence: int) -> int:
    """A length to derive others from; the configuration refuses an impossible one by its name."""
    return max(1, sequence)


def _divisor(wanted: int, *totals: int) -> int:
    """The largest divisor of all `totals` that is at most `wanted`."""
    return next(n for n in range(wanted, 0, -1) if all(total % n == 0 for total in totals))
