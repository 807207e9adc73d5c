"""What a callback is: any of seven methods, each told of one kind of event.

Our own parts (CSV, TensorBoard, the terminal, evaluation, ...) are callbacks like a user's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from retain.data.episodes import Episode
from retain.train.contract import Learner, State
from retain.train.evaluate import Evaluation

Row: TypeAlias = dict[str, float]
"""Metrics by name."""
Reason: TypeAlias = Literal["finished", "asked", "signal", "failed"]
"""Why a run ended; asked: a callback wanted it to."""


@dataclass
class Run:
    """A run of training, as every event shows it: to be read, not to be changed."""

    agent: Learner
    folder: Path | None
    """Where the run is written; None writes nothing."""
    resumed: bool
    """Whether it goes on from a checkpoint."""
    post: Callable[["Event"], None]
    """Tells every callback."""
    checkpoint_wanted: bool = False
    """Whether a checkpoint is to be written after this row, due or not; a callback may set it."""
    said: set[str] = field(default_factory=set)

    @property
    def first(self) -> int:
        """Steps of the agent when the run began."""
        return self.agent.progress["start"]

    @property
    def end(self) -> int:
        """Steps of the agent at the run's planned end."""
        return self.first + self.agent.progress["total"]

    @property
    def steps(self) -> int:
        """Steps of the agent so far."""
        return self.agent.steps

    @property
    def over(self) -> bool:
        """Whether the planned end is reached."""
        return self.steps >= self.end

    def passed(self, every: int, before: int) -> bool:
        """Whether a multiple of `every` steps since the run began was reached after `before`."""
        return (self.steps - self.first) // every > (before - self.first) // every

    def warn(self, text: str) -> None:
        """Says a line to whoever watches, the first time that its part before ":" comes up."""
        key = text.split(":")[0]
        if key not in self.said:
            self.said.add(key)
            self.post(Warned(self, text))


@dataclass(frozen=True)
class Event:
    """Something that happened in a run."""

    hook: ClassVar[str]
    """The callback's method that is told."""
    run: Run


@dataclass(frozen=True)
class Started(Event):
    """Training begins, or goes on where a checkpoint left it."""

    hook = "on_start"


@dataclass(frozen=True)
class RowLogged(Event):
    """An update is done."""

    hook = "on_row"
    metrics: Row
    """docs/metrics.md; what a callback adds is logged under its name."""
    due: bool
    """Whether the run's own schedule writes a checkpoint after this row."""


@dataclass(frozen=True)
class EpisodeEnded(Event):
    """A training episode is over; told before the row it belongs to."""

    hook = "on_episode"
    episode: Episode
    """Return, length, seed, and the last `info`."""


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is on the disk."""

    hook = "on_checkpoint"
    path: Path


@dataclass(frozen=True)
class Evaluated(Event):
    """The agent has played whole episodes in environments of its own."""

    hook = "on_evaluation"
    evaluation: Evaluation


@dataclass(frozen=True)
class Warned(Event):
    """Somebody has a line to say to whoever watches."""

    hook = "on_warning"
    text: str


@dataclass(frozen=True)
class Ended(Event):
    """The run is over."""

    hook = "on_end"
    reason: Reason
    by: str | None = None
    """The callback that asked for it."""


class Callback:
    """Watches a run. Override what you need; a true return value asks the run to stop.

    A run that is asked to stop writes its checkpoint first, and `retain resume` goes on from there.
    So does one whose callback raised; the line then names the callback.
    """

    name: ClassVar[str | None] = None
    """What it is registered as."""

    def on_start(self, event: Started) -> bool | None:
        """Training begins; `restore` has been called before if the run goes on."""
        return None

    def on_row(self, event: RowLogged) -> bool | None:
        """An update is done."""
        return None

    def on_episode(self, event: EpisodeEnded) -> bool | None:
        """A training episode is over."""
        return None

    def on_checkpoint(self, event: CheckpointSaved) -> bool | None:
        """A checkpoint is on the disk."""
        return None

    def on_evaluation(self, event: Evaluated) -> bool | None:
        """An evaluation is done."""
        return None

    def on_warning(self, event: Warned) -> bool | None:
        """Somebody has a line to say."""
        return None

    def on_end(self, event: Ended) -> None:
        """The run is over, whatever the reason; called last-started first, also after a failure."""

    def state(self) -> State:
        """What must survive a resume, as JSON; written into every checkpoint."""
        return {}

    def restore(self, state: State) -> None:
        """Takes back what `state` gave."""
