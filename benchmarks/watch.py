"""What a benchmark wants to know about a run besides its metrics, in a file of the run folder."""

import json
import math
import statistics
import time
from pathlib import Path

import retain
from retain.train.callbacks.base import EpisodeEnded, Started

FILE = "watch.json"
LATE = 0.9
"""Share of the run after which episodes count for the mean at its end."""


class Watch(retain.Callback):
    """Collects the training returns; asks for the end once ten in a row have the mean `goal`."""

    goal = math.inf

    def __init__(self) -> None:
        self.last: list[float] = []
        self.late: list[float] = []
        self.episodes, self.cpu_seconds, self.reached = 0, 0.0, False

    def on_start(self, event: Started) -> None:
        self.began = time.thread_time()

    def on_episode(self, event: EpisodeEnded) -> bool:
        if not self.reached:
            self.episodes += 1
            self.last = [*self.last[-9:], event.episode.ret]
            self.reached = len(self.last) == 10 and statistics.mean(self.last) >= self.goal
            if event.run.steps > LATE * event.run.end:
                self.late.append(event.episode.ret)
        return self.reached

    def on_end(self, event) -> None:
        (event.run.folder / FILE).write_text(json.dumps(self.state()))

    def state(self) -> dict[str, object]:
        return {
            "last": self.last, "late": self.late, "episodes": self.episodes,
            "reached": self.reached,
            "cpu_seconds": self.cpu_seconds + time.thread_time() - self.began,
        }  # fmt: skip

    def restore(self, state) -> None:
        self.last, self.late = list(state["last"]), list(state["late"])
        self.episodes, self.reached = state["episodes"], state["reached"]
        self.cpu_seconds = state["cpu_seconds"]


class Above250(Watch):
    goal = -250.0


class Above300(Watch):
    goal = -300.0


def watched(folder: Path) -> dict:
    """What a finished run's `Watch` has found."""
    return json.loads((folder / FILE).read_text())
