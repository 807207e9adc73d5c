"""What a step of collecting costs: actions chosen in NumPy, and by the policy's forward.

    python benchmarks/collecting.py --write

PPO on CartPole-v1 with an untrained policy, [64, 64], memories of 128, segments of 128 steps, one
thread. Both ways collect in turn in one process; medians in us a step of all environments, the
forward over every finished piece included. *choosing*: one call alone. *environments*: the same
environments with random actions, their resets included.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import retain
from machine import machine_line
from retain.data.segment import ArraySegment, Segment
from retain.nn.arrays import ArrayActor

RESULTS = Path(__file__).parent / "results"
STEPS = 128


def by_forward() -> AbstractContextManager[object]:
    """Inside, no arrays act."""
    return mock.patch.object(ArrayActor, "of", classmethod(lambda *_: None))


WAYS: dict[str, tuple[type[Segment], Callable[[], AbstractContextManager[object]]]] = {
    "arrays": (ArraySegment, nullcontext), "forward": (Segment, by_forward),
}  # fmt: skip


def choosing(agent: retain.PPO, kind: type[Segment]) -> float:
    """us of choosing actions once, where no forward follows."""
    act, times = kind.act, []

    def timed(segment: Segment, t: int) -> torch.Tensor:
        began = time.perf_counter()
        chosen = act(segment, t)
        times.append(time.perf_counter() - began)
        return chosen

    with mock.patch.object(kind, "act", timed):
        agent.collector.collect(STEPS)
    return statistics.median(times) * 1e6


def environments(agent: retain.PPO, random: np.random.Generator) -> float:
    """us a step of the environments alone."""
    stream = agent.collector.streams[0]
    actions = random.integers(0, 2, (STEPS, stream.num_envs))
    began = time.perf_counter()
    for action in actions:
        stream.backend.send(action)
        step = stream.receive()
        ended = step.terminated | step.truncated
        if ended.any():
            stream.restart(ended)
    return (time.perf_counter() - began) / STEPS * 1e6


def row(memory: str, count: int, rounds: int) -> str:
    """A line of the table."""
    settings = {"memory": memory, "num_envs": count, "preset": "none", "seed": 1}
    agents = {way: retain.PPO("CartPole-v1", **settings) for way in (*WAYS, "alone")}
    agents["alone"].collector.collect(STEPS)
    times: dict[str, list[float]] = {}
    random = np.random.default_rng(1)
    for number in range(rounds + 2):
        for way, (kind, inside) in WAYS.items():
            with inside():
                began = time.perf_counter()
                agents[way].collector.collect(STEPS)
                whole = (time.perf_counter() - began) / STEPS * 1e6
                found = {way: whole, f"{way} choosing": choosing(agents[way], kind)}
            for name, us in found.items() if number >= 2 else ():
                times.setdefault(name, []).append(us)
        times.setdefault("environments", []).append(environments(agents["alone"], random))
    us = {name: statistics.median(values) for name, values in times.items()}
    return (
        f"| {memory} | {count} | {us['arrays']:.0f} | {us['forward']:.0f} | "
        f"{us['forward'] / us['arrays']:.2f} | {us['arrays choosing']:.0f} | "
        f"{us['forward choosing']:.0f} | {us['environments']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="write results/collecting.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Collecting\n", f"{machine_line()}\n",
        "`python benchmarks/collecting.py`, whose head says what is measured: us a step.\n",
        "| memory | environments | arrays | forward | ratio | choosing, arrays | choosing, forward "
        "| environments alone |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for memory in ("none", "lstm", "gru", "mingru", "lru"):
        for count in (8, 64):
            lines.append(row(memory, count, options.rounds))
            print(lines[-1], flush=True)
    if options.write:
        (RESULTS / "collecting.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
