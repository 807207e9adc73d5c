"""Trackio (`pip install 'retain[trackio]'`): a local dashboard, or a Space."""

import os

from retain.train.callbacks.base import Callback, Ended, RowLogged, Started
from retain.train.callbacks.registry import register_callback
from retain.train.callbacks.tracker import artefacts, extra, finite, settings_of, title
from retain.train.contract import State


@register_callback("trackio")
class Trackio(Callback):
    """Logs a run to Trackio; a resumed run continues there.

    Args:
        project: the project's name; by default the variable TRACKIO_PROJECT, else "retain".
            TRACKIO_SPACE_ID sends the run to a Space instead of a local file.
    """

    def __init__(self, project: str | None = None) -> None:
        self.trackio = extra("trackio")
        self.project = project or os.environ.get("TRACKIO_PROJECT", "retain")
        self.title: str | None = None

    def on_start(self, event: Started) -> None:
        """Begins a tracked run, or continues it."""
        run = event.run
        resume = "must" if self.title else "never"
        self.title = self.title or title(run)
        self.run = self.trackio.init(
            self.project, name=self.title, group=run.agent.name, config=settings_of(run),
            resume=resume, embed=False,
        )  # fmt: skip

    def on_row(self, event: RowLogged) -> None:
        """Sends the row."""
        self.run.log(finite(event.metrics), step=int(event.metrics["step"]))

    def on_end(self, event: Ended) -> None:
        """Sends a finished run's files."""
        if event.reason == "finished":
            for path in artefacts(event.run):
                self.run.log_artifact(path, name=f"{self.title}-{path.stem}", type="run")
        self.run.finish()

    def state(self) -> State:
        """The id of the tracked run."""
        return {"title": self.title}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.title = state["title"]
