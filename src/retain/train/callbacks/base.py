"""The callback interface: seven methods, each for one kind of event.

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
"""The reason why a run ended; "asked" means that a callback asked it to."""


@dataclass
class Run:
    """A training run as every event shows it: read it, but do not change it."""

    agent: Learner
    folder: Path | None
    """The run folder; None writes nothing."""
    resumed: bool
    """Whether the run continues from a checkpoint."""
    post: Callable[["Event"], None]
    """Passes an event to every callback."""
    checkpoint_wanted: bool = False
    """Whether to write a checkpoint after this row even if none is due; a callback may set it."""
    said: set[str] = field(default_factory=set)

    @property
    def first(self) -> int:
        """The agent's steps when the run began."""
        return self.agent.progress["start"]

    @property
    def end(self) -> int:
        """The agent's steps at the run's planned end."""
        return self.first + self.agent.progress["total"]

    @property
    def steps(self) -> int:
        """The agent's steps so far."""
        return self.agent.steps

    @property
    def over(self) -> bool:
        """Whether the planned end is reached."""
        return self.steps >= self.end

    def passed(self, every: int, before: int) -> bool:
        """Whether a multiple of `every` steps since the run's beginning was reached after
        `before`."""
        return (self.steps - self.first) // every > (before - self.first) // every

    def warn(self, text: str) -> None:
        """Shows a line to the user, the first time that its part before ":" occurs."""
        key = text.split(":")[0]
        if key not in self.said:
            self.said.add(key)
            self.post(Warned(self, text))


@dataclass(frozen=True)
class Event:
    """Something that happened in a run."""

    hook: ClassVar[str]
    """The callback method that receives the event."""
    run: Run


@dataclass(frozen=True)
class Started(Event):
    """Training begins, or continues from a checkpoint."""

    hook = "on_start"


@dataclass(frozen=True)
class RowLogged(Event):
    """An update is finished."""

    hook = "on_row"
    metrics: Row
    """Metrics of the row (docs/metrics.md); entries that a callback adds are logged by their
    names."""
    due: bool
    """Whether the run's own schedule writes a checkpoint after this row."""


@dataclass(frozen=True)
class EpisodeEnded(Event):
    """A training episode is over; the event comes before the row that the episode belongs to."""

    hook = "on_episode"
    episode: Episode
    """The episode: return, length, seed, and the last `info`."""


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is on the disk."""

    hook = "on_checkpoint"
    path: Path


@dataclass(frozen=True)
class Evaluated(Event):
    """The agent has played whole episodes in separate environments."""

    hook = "on_evaluation"
    evaluation: Evaluation


@dataclass(frozen=True)
class Warned(Event):
    """A part of the program has a line to show to the user."""

    hook = "on_warning"
    text: str


@dataclass(frozen=True)
class Ended(Event):
    """The run is over."""

    hook = "on_end"
    reason: Reason
    by: str | None = None
    """The callback that asked for the end."""


class Callback:
    """Watches a run. Override the methods you need; a true return value asks the run to stop.

    A run that is asked to stop writes its checkpoint first, and `retain resume` continues from
    there. The same happens if a callback raises; the error line then names the callback.
    """

    name: ClassVar[str | None] = None
    """The registered name."""

    def on_start(self, event: Started) -> bool | None:
        """Training begins; in a resumed run, `restore` has been called before."""
        return None

    def on_row(self, event: RowLogged) -> bool | None:
        """An update is finished."""
        return None

    def on_episode(self, event: EpisodeEnded) -> bool | None:
        """A training episode is over."""
        return None

    def on_checkpoint(self, event: CheckpointSaved) -> bool | None:
        """A checkpoint is on the disk."""
        return None

    def on_evaluation(self, event: Evaluated) -> bool | None:
        """An evaluation is finished."""
        return None

    def on_warning(self, event: Warned) -> bool | None:
        """There is a line to show to the user."""
        return None

    def on_end(self, event: Ended) -> None:
        """The run is over, for any reason; called in reverse order, and also after a failure."""

    def state(self) -> State:
        """The state that must survive a resume, as JSON; written into every checkpoint."""
        return {}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
