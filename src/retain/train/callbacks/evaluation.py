"""Evaluates at regular intervals while training."""

import math

from retain.errors import UsageError
from retain.train.callbacks.base import Callback, Evaluated, RowLogged, Started
from retain.train.callbacks.registry import register_callback
from retain.train.evaluate import evaluate, separate

MOVE = 0x7E57
"""An offset that separates the episodes' seeds from the training's and from those of
`agent.evaluate`, so that the latter's episodes are fresh for a checkpoint that was chosen here."""


@register_callback("evaluation")
class Evaluate(Callback):
    """Plays the same episodes every time, so that two evaluations differ only by the agent."""

    def on_start(self, event: Started) -> None:
        """Skips the evaluations that were due before this start."""
        self.before = event.run.steps
        if not separate(event.run.agent):
            raise UsageError(
                "eval_every needs separate environments, but the one that was given cannot be "
                "copied: pass a callable that makes one"
            )

    def on_row(self, event: RowLogged) -> None:
        """Adds the evaluation's columns, NaN between evaluations."""
        run, settings = event.run, event.run.agent.run_settings
        names = ("return_mean", "return_std", "length_mean", *settings.log_info)
        event.metrics.update(dict.fromkeys((f"eval_{name}" for name in names), math.nan))
        due = run.passed(settings.eval_every, self.before) or run.over
        self.before = run.steps
        if due:
            seed = settings.seed ^ MOVE
            found = evaluate(run.agent, settings.eval_episodes, seed=seed)
            numbers = {name: getattr(found, name) for name in names[:3]} | found.info
            event.metrics.update({f"eval_{name}": value for name, value in numbers.items()})
            run.post(Evaluated(run, found))
