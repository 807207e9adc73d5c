"""Writes TensorBoard events next to metrics.csv."""

import math

from torch.utils.tensorboard import SummaryWriter

from retain.train.callbacks.base import Callback, Ended, RowLogged, Started
from retain.train.callbacks.registry import register_callback

GROUPS = {
    "return_mean": "episode",
    "length_mean": "episode",
    "episodes": "episode",
    "seconds": "time",
    "steps_per_second": "time",
}


def group_of(metric: str) -> str:
    """The heading for a metric."""
    return "evaluation" if metric.startswith("eval_") else GROUPS.get(metric, "train")


@register_callback("tensorboard")
class TensorBoard(Callback):
    """Logs one scalar per metric and row; hides an earlier process's events after the
    checkpoint."""

    def on_start(self, event: Started) -> None:
        """Opens an event file."""
        self.writer = SummaryWriter(
            str(event.run.folder), purge_step=event.run.steps, max_queue=10_000, flush_secs=30
        )

    def on_row(self, event: RowLogged) -> None:
        """Adds the row."""
        step = int(event.metrics["step"])
        for name, value in event.metrics.items():
            if name != "step" and math.isfinite(value):
                self.writer.add_scalar(f"{group_of(name)}/{name}", value, step)

    def on_end(self, event: Ended) -> None:
        """Flushes and closes the file."""
        self.writer.close()
