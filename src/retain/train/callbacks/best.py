"""Keeps checkpoints/best: the best agent so far."""

import math

from retain.data.episodes import RECENT
from retain.train import checkpoint as store
from retain.train.callbacks.base import Callback, CheckpointSaved, Evaluated, RowLogged, Started
from retain.train.callbacks.registry import register_callback
from retain.train.contract import State


@register_callback("best")
class Best(Callback):
    """Keeps a copy of the best checkpoint. With evaluations (`eval_every`), they decide; otherwise
    the training return over a full window of 100 episodes does, at the scheduled checkpoints."""

    def __init__(self) -> None:
        self.score = -math.inf
        self.step: int | None = None
        """Step of the best checkpoint."""

    def on_start(self, event: Started) -> None:
        """Copies the checkpoint if the run was killed before the copy was made."""
        run = event.run
        if not run.resumed or self.step is None or run.folder is None:
            return
        source = run.folder / store.FOLDER / store.checkpoint_name(self.step)
        if source.exists():
            store.keep_best(run.folder, source)

    def on_evaluation(self, event: Evaluated) -> None:
        """Saves a better agent at once."""
        self._consider(event.evaluation.return_mean, event.run.steps)
        event.run.checkpoint_wanted |= self.step == event.run.steps

    def on_row(self, event: RowLogged) -> None:
        """Considers a scheduled checkpoint, if there are no evaluations."""
        run = event.run
        full = len(run.agent.collector.statistics.recent) == RECENT
        if event.due and full and not run.agent.run_settings.eval_every:
            self._consider(event.metrics["return_mean"], run.steps)

    def _consider(self, score: float, step: int) -> None:
        if score > self.score:
            self.score, self.step = score, step

    def on_checkpoint(self, event: CheckpointSaved) -> None:
        """Copies the checkpoint if it is the best."""
        assert event.run.folder is not None
        if self.step == event.run.steps:
            store.keep_best(event.run.folder, event.path)

    def state(self) -> State:
        """The best score and its step."""
        return {} if self.step is None else {"score": self.score, "step": self.step}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.score, self.step = state["score"], state["step"]
