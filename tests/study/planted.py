"""A launcher that trains nothing: each run has a planted return, and a learning curve towards it."""

from dataclasses import dataclass

import numpy as np

from retain.study.launcher import Launcher
from retain.study.outcome import Outcome
from retain.train.trainer import Interrupted


@dataclass
class Done:
    plan: object
    outcome: Outcome
    done: bool = True

    def result(self):
        return self.outcome

    def stop(self):
        self.plan = None


class Planted:
    """Runs that end at once.

    Args:
        value: the return of a run, from its plan.
        dies_after: number of runs after which the study's process is stopped.
    """

    slots = 1

    def __init__(self, value, dies_after=10**9):
        self.value, self.left = value, dies_after
        self.plans = []

    def submit(self, plan):
        if self.left == 0:
            raise Interrupted(plan.folder, 15)
        self.left -= 1
        self.plans.append(plan)
        value = self.value(plan)
        plan.folder.mkdir(parents=True, exist_ok=True)
        rows = [f"{int(plan.steps * x)},200,{value * x}" for x in np.linspace(0.05, 1, 20)]
        text = "\n".join(["step,episodes,return_mean", *rows, ""])
        (plan.folder / "metrics.csv").write_text(text)
        return Done(plan, Outcome(value, value, value, 1000.0, random=0.0))

    def wait(self, seconds):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        pass


assert isinstance(Planted(None), Launcher)
