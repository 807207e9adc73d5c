"""Small runs for the tests of launchers, and what is compared of them."""

import csv
import time
from dataclasses import replace

from retain.study.outcome import RunPlan

SETTINGS = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,), "seed": 3,
            "threads": 1, "checkpoint_every": 256, "tensorboard": False}  # fmt: skip


def plan(folder, steps=1000, **settings):
    return RunPlan("CartPole-v1", "ppo", SETTINGS | settings, steps, folder, episodes=2)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def numbers(outcome):
    return replace(outcome, steps_per_second=0.0)


def until(there, launcher, seconds=90):
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        launcher.wait(0.05)
    assert there()
