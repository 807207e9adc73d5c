"""MLflow (`pip install 'retain[mlflow]'`)."""

import os
import time

from retain.train.callbacks.base import Callback, Ended, RowLogged, Started
from retain.train.callbacks.registry import register_callback
from retain.train.callbacks.tracker import artefacts, extra, finite, settings_of, title
from retain.train.contract import State

STATUS = {"finished": "FINISHED", "asked": "FINISHED", "signal": "KILLED", "failed": "FAILED"}
LONGEST = 500
"""Largest number of characters that MLflow's file store takes for a setting."""


@register_callback("mlflow")
class MLflow(Callback):
    """Logs a run to MLflow; a resumed run continues there.

    Args:
        uri: the store's address; by default the variable MLFLOW_TRACKING_URI, else MLflow's own
            default.
        experiment: the experiment's name; by default the variable MLFLOW_EXPERIMENT_NAME, else
            "retain".
    """

    def __init__(self, uri: str | None = None, experiment: str | None = None) -> None:
        self.entities = extra("mlflow").entities
        self.client = extra("mlflow").MlflowClient(tracking_uri=uri)
        self.experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "retain")
        self.id: str | None = None

    def on_start(self, event: Started) -> None:
        """Begins a tracked run, or continues it."""
        if self.id is not None:
            self.client.update_run(self.id, status="RUNNING")
            history = self.client.get_metric_history(self.id, "episodes")
            self.logged = max((point.step for point in history), default=-1)
            return
        known = self.client.get_experiment_by_name(self.experiment)
        number = known.experiment_id if known else self.client.create_experiment(self.experiment)
        created = self.client.create_run(number, run_name=title(event.run))
        self.id, self.logged = created.info.run_id, -1
        settings = settings_of(event.run)
        params = [self.entities.Param(k, str(value)[:LONGEST]) for k, value in settings.items()]
        self.client.log_batch(self.id, params=params)

    def on_row(self, event: RowLogged) -> None:
        """Sends the row, unless a killed run had already sent it after its checkpoint."""
        step, now = int(event.metrics["step"]), int(time.time() * 1000)
        if step > self.logged:
            row = finite(event.metrics)
            points = [self.entities.Metric(key, value, now, step) for key, value in row.items()]
            self.client.log_batch(self.id, metrics=points)

    def on_end(self, event: Ended) -> None:
        """Sends a finished run's files."""
        if event.reason == "finished":
            for path in artefacts(event.run):
                if path.is_dir():
                    self.client.log_artifacts(self.id, str(path), path.name)
                else:
                    self.client.log_artifact(self.id, str(path))
        self.client.set_terminated(self.id, STATUS[event.reason])

    def state(self) -> State:
        """The id of the tracked run."""
        return {"id": self.id}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.id = state["id"]
