"""Records every episode's seed and actions, for `retain playback`."""

from retain.data.episodes import Episode
from retain.train.callbacks.base import Callback, Ended, EpisodeEnded, RowLogged, Started
from retain.train.callbacks.registry import register_callback
from retain.train.contract import State
from retain.train.recorder import Recorder


@register_callback("recorder")
class Record(Callback):
    """Writes episodes.jsonl and actions.bin."""

    def __init__(self) -> None:
        self.offsets: tuple[int, int] = (0, 0)
        self.finished: list[Episode] = []

    def on_start(self, event: Started) -> None:
        """Opens the files and drops data after the checkpoint."""
        assert event.run.folder is not None
        self.recorder = Recorder(event.run.folder, event.run.agent.collector, self.offsets)

    def on_episode(self, event: EpisodeEnded) -> None:
        """Keeps the episode until its row is written."""
        self.finished.append(event.episode)

    def on_row(self, event: RowLogged) -> None:
        """Writes the steps and the episodes since the last row."""
        self.recorder.write(self.finished)
        self.finished = []

    def state(self) -> State:
        """The size of each file in bytes."""
        return {"offsets": list(self.recorder.offsets())}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.offsets = tuple(state["offsets"])

    def on_end(self, event: Ended) -> None:
        """Closes the files."""
        self.recorder.close()
