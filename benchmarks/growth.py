"""How the cost of PPO grows: with environments, widths, lengths of segments, and threads.

    python benchmarks/growth.py --write

PPO on CartPole-v1, without a memory and with an LSTM: 8 environments, 128 steps a segment, 4
epochs of 4 minibatches, [64, 64], an LSTM of 128; one of these changes at a time. Whole training in
environment steps per second, 1 thread / 2 threads, which take turns; the better of the rounds,
since other programs only ever slow one down. On segments longer than 128 steps the LSTM learns from
sequences of 128.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import retain
from machine import machine_line

RESULTS = Path(__file__).parent / "results"
GROWING: dict[str, tuple[int, ...]] = {
    "num_envs": (1, 8, 64, 256, 1024),
    "width": (64, 128, 256, 512, 1024),
    "num_steps": (32, 128, 512, 2048, 4096),
}
LONGEST = 128
"""Steps of a sequence at most."""


def agent_of(memory: str, grown: str, value: int, **more: Any) -> retain.Agent:
    """An agent of which one size is not the usual one."""
    sizes = {"num_envs": 8, "num_steps": 128} | ({grown: value} if grown != "width" else {})
    batch = sizes["num_envs"] * sizes["num_steps"] // 4
    if memory != "none":
        length = min(sizes["num_steps"], LONGEST)
        batch = max(1, batch // length) * length
        more |= {"sequence_length": length, "memory_hidden": value if grown == "width" else 128}
    elif grown == "width":
        more["hidden"] = (value, value)
    return retain.PPO(
        "CartPole-v1", preset="none", memory=memory, batch_size=batch, epochs=4, threads=0, seed=1,
        **sizes, **more,
    )  # fmt: skip


def rates(memory: str, grown: str, value: int, rounds: int, **more: Any) -> tuple[float, float]:
    """Steps per second with one and with two threads."""
    agent = agent_of(memory, grown, value, **more)
    segment = agent.config.num_steps * agent.run_settings.num_envs
    best = {1: 0.0, 2: 0.0}
    agent.learn(segment)
    for _ in range(rounds):
        for threads in best:
            torch.set_num_threads(threads)
            began, steps = time.perf_counter(), 0
            while steps == 0 or time.perf_counter() - began < 0.5:
                agent.learn(segment)
                steps += segment
            best[threads] = max(best[threads], steps / (time.perf_counter() - began))
    return best[1], best[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write results/growth.md")
    options = parser.parse_args()
    lines = [f"# How the cost grows\n\n{machine_line()}\n\n`python benchmarks/growth.py`: "
             "environment steps per second, 1 thread / 2 threads; *width* is that of both hidden "
             "layers, or of the LSTM."]  # fmt: skip
    for grown, values in GROWING.items():
        lines += ["", f"| {grown} | PPO | PPO, native kernels | LSTM | LSTM, native kernels |"]
        lines += ["|---|---|---|---|---|"]
        for value in values:
            cells = []
            for memory in ("none", "lstm"):
                for kernels in ("torch", "native"):
                    one, two = rates(memory, grown, value, options.rounds, kernels=kernels)
                    cells.append(f"{one:,.0f} / {two:,.0f}")
            lines.append(f"| {value} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    if options.write:
        (RESULTS / "growth.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
