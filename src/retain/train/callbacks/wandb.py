"""Weights & Biases (`pip install 'retain[wandb]'`)."""

import os

from retain.train.callbacks.base import Callback, Ended, RowLogged, Started
from retain.train.callbacks.registry import register_callback
from retain.train.callbacks.tracker import artefacts, extra, finite, settings_of, title
from retain.train.contract import State


@register_callback("wandb")
class WandB(Callback):
    """Logs a run to Weights & Biases; a resumed run continues there.

    A resumed run sends the rows after its checkpoint again. The rows are the same, and Weights &
    Biases ignores a step that it already has.

    Args:
        project: the project's name; by default the variable WANDB_PROJECT, else "retain".
            WANDB_MODE=offline needs no account.
    """

    def __init__(self, project: str | None = None) -> None:
        self.wandb = extra("wandb")
        self.project = project or os.environ.get("WANDB_PROJECT", "retain")
        self.id: str | None = None

    def on_start(self, event: Started) -> None:
        """Begins a tracked run, or continues it."""
        run = event.run
        # Beside the run folder, not in it: its files link to a cache elsewhere.
        beside = None if run.folder is None else run.folder.parent
        home = os.environ.get("WANDB_DIR", beside)
        self.run = self.wandb.init(
            project=self.project, name=title(run), group=run.agent.name, dir=home,
            config=settings_of(run), id=self.id, resume="allow" if self.id else None,
        )  # fmt: skip
        self.id = self.run.id

    def on_row(self, event: RowLogged) -> None:
        """Sends the row."""
        self.run.log(finite(event.metrics), step=int(event.metrics["step"]))

    def on_end(self, event: Ended) -> None:
        """Sends a finished run's files."""
        if event.reason == "finished":
            artefact = self.wandb.Artifact(f"run-{self.id}", type="run")
            for path in artefacts(event.run):
                add = artefact.add_dir if path.is_dir() else artefact.add_file
                add(str(path), name=path.name)
            self.run.log_artifact(artefact)
        self.run.finish(exit_code=int(event.reason == "failed"))

    def state(self) -> State:
        """The id of the tracked run."""
        return {"id": self.id}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.id = state["id"]
