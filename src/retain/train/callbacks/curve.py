"""The learning curve as a picture, at the run's end."""

from retain.train.callbacks.base import Callback, Ended
from retain.train.callbacks.registry import register_callback
from retain.train.plot import plot_run


@register_callback("curve")
class Curve(Callback):
    """Draws learning_curve.png from metrics.csv."""

    def on_end(self, event: Ended) -> None:
        """Draws the picture, unless the run failed."""
        if event.run.folder is not None and event.reason in ("finished", "asked"):
            plot_run(event.run.folder)
