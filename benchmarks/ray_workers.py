"""What a group's step costs with workers in Ray actors, beside shared memory and this process.

    python benchmarks/ray_workers.py --rounds 7 --write

Environments that do nothing: what is left is the cost of asking. Then environments that compute for
a millisecond, where two workers may halve the time. Every system is measured in turn, several
times; the median counts, with the fastest and slowest round. An engine pays from the cost c of an
environment's step where B c (1 - 1/W) is more than what it adds to a step in this process, if each
worker has a core of its own.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np

from envs import Millisecond, Noop, measured, ours
from machine import machine_line

RESULTS = Path(__file__).parent / "results"
ENGINES: dict[str, dict[str, object]] = {
    "this process": {},
    "shared memory": {"workers": 2},
    "Ray": {"workers": 2, "worker_engine": "ray"},
}


class Image(Noop):
    """Observes a stack of frames, 28 kB."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    obs = np.zeros((84, 84, 4), np.uint8)


CASES = (
    ("4 numbers", Noop, 2),
    ("4 numbers", Noop, 16),
    ("4 numbers", Noop, 64),
    ("28 kB images", Image, 16),
    ("4 numbers, 1 ms a step", Millisecond, 16),
)


def rounds(count: int, seconds: float) -> dict[tuple[str, int, str], list[float]]:
    """Microseconds of a step of all environments, by case and engine, a figure a round."""
    found: dict[tuple[str, int, str], list[float]] = {}
    built: dict[tuple[str, int, str], Callable] = {}
    closing = []
    for name, env, B in CASES:
        for engine, options in ENGINES.items():
            step, close = ours(env, B, **options)
            closing.append(close)
            built[name, B, engine] = partial(lambda *pair: pair, step, lambda: None)
    for _ in range(count):
        for case, build in built.items():
            rate = measured(build, case[1], seconds)
            found.setdefault(case, []).append(1e6 * case[1] / rate)
    for close in closing:
        close()
    return found


def lines(found: dict[tuple[str, int, str], list[float]]) -> list[str]:
    out = [
        "| observation | environments | engine | us a step of all | fastest, slowest round "
        "| adds, us | pays from, us an environment's step |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, B, engine), values in found.items():
        here, own = statistics.median(found[name, B, "this process"]), statistics.median(values)
        adds, from_ = "-", "-"
        if engine != "this process" and "1 ms" not in name:
            adds, from_ = f"{own - here:,.0f}", f"{2 * (own - here) / B:,.0f}"
        spread = f"{min(values):,.0f}, {max(values):,.0f}"
        out.append(f"| {name} | {B} | {engine} | {own:,.0f} | {spread} | {adds} | {from_} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--write", action="store_true", help="write results/ray_workers.md")
    options = parser.parse_args()
    load = os.getloadavg()[1]
    table = lines(rounds(options.rounds, options.seconds))
    text = "\n".join(
        [
            f"# Workers in Ray actors\n\n{machine_line()}\n",
            "`python benchmarks/ray_workers.py`: two workers, a Ray of this process's own. The "
            f"machine was shared: its load was {load:.1f} before and {os.getloadavg()[1]:.1f} "
            "after (1 a busy core). Compare the figures with each other: waking a worker takes the "
            "longer the busier the machine is, and Ray wakes several threads for each message.\n",
            *table,
        ]
    )
    print(text)
    if options.write:
        (RESULTS / "ray_workers.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
