"""Your own callback: stops a run that has learned its task, and logs a new column.

python examples/own_callback.py
"""

import sys
import tempfile
from pathlib import Path

import retain


class Solved(retain.Callback):
    """Stops once the evaluations while training have been good enough several times in a row."""

    def __init__(self, wanted: float = 475.0, times: int = 2) -> None:
        self.wanted, self.times, self.good = wanted, times, 0

    def on_evaluation(self, event):
        """A true return value asks the run to stop; it writes its checkpoint first."""
        self.good = self.good + 1 if event.evaluation.return_mean >= self.wanted else 0
        return self.good >= self.times

    def state(self):
        """State for every checkpoint, so that a resumed run continues counting."""
        return {"good": self.good}

    def restore(self, state):
        self.good = state["good"]


class Longest(retain.Callback):
    """Logs a new metric: the longest episode since the last row."""

    length = 0

    def on_episode(self, event):
        self.length = max(self.length, event.episode.length)

    def on_row(self, event):
        event.metrics["longest_episode"] = float(self.length)
        self.length = 0


def main(steps: int = 100_000) -> None:
    """Trains PPO until the task is solved."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        agent = retain.PPO("CartPole-v1", seed=1, eval_every=max(steps // 20, 256), eval_episodes=5)
        agent.learn(steps, out=run, callbacks=[Solved(), Longest()])
        header = (run / "metrics.csv").read_text().splitlines()[0]
    print(f"stopped after {agent.steps:,} steps; columns of metrics.csv: {header}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
