"""What `--compile` gives: training with and without it, interleaved.

    python benchmarks/compiled.py --rounds 5 --write

End-to-end environment steps per second, learning included, one thread, medians over the rounds.
Compare ratios, not seconds. The first learning of each compiled agent, which compiles unless torch
has the code in its cache, is timed apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import retain
from machine import machine_line

RESULTS = Path(__file__).parent / "results"
PPO = {"num_steps": 128, "epochs": 4, "hidden": (64, 64), "activation": "tanh", "preset": "none"}
SMALL = {**PPO, "num_envs": 8, "batch_size": 256, "memory_hidden": 128}
OFF = {"hidden": (256, 256), "batch_size": 256, "learning_starts": 256, "preset": "none"}
WORK: dict[str, tuple[Callable[..., Any], str, dict[str, Any], int]] = {
    "PPO, 8 environments": (retain.PPO, "CartPole-v1", {**PPO, "num_envs": 8}, 20_480),
    "PPO, 64 environments": (
        retain.PPO, "CartPole-v1", {**PPO, "num_envs": 64, "batch_size": 2048}, 49_152),
    "PPO, LSTM of 128": (retain.PPO, "CartPole-v1", {**SMALL, "memory": "lstm"}, 8192),
    "PPO, minGRU of 128": (retain.PPO, "CartPole-v1", {**SMALL, "memory": "mingru"}, 8192),
    "SAC, [256, 256]": (retain.SAC, "Pendulum-v1", OFF, 400),
    "SAC, LSTM of 128": (retain.SAC, "PendulumNoVel-v1", {**OFF, "memory": "lstm"}, 400),
    "TD3, [256, 256]": (retain.TD3, "Pendulum-v1", OFF, 500),
    "DQN, [256, 256]": (retain.DQN, "CartPole-v1", OFF, 500),
}  # fmt: skip


def timed(agent: Any, steps: int) -> float:
    began = time.perf_counter()
    agent.learn(steps)
    return time.perf_counter() - began


def row(name: str, rounds: int) -> str:
    """A line of the table."""
    build, env, settings, steps = WORK[name]
    agents = [build(env, **settings, threads=0, compile=on) for on in (False, True)]
    first = [timed(agent, max(steps, 512)) for agent in agents][1]
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for agent, found in zip(agents, seconds, strict=True):
            found.append(timed(agent, steps))
    eager, compiled = (steps / statistics.median(found) for found in seconds)
    return (f"| {name} | {eager:,.0f} | {compiled:,.0f} | {compiled / eager:.2f} | "
            f"{first - steps / compiled:.0f} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="parts of what rows are called")
    parser.add_argument("--write", action="store_true", help="write results/compiled.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [n for n in WORK if not options.only or any(part in n for part in options.only)]
    lines = [
        "# Compiled gradient steps", "", machine_line(), "",
        f"`python benchmarks/compiled.py --rounds {options.rounds}`: one thread.", "",
        "| work | eager, steps/s | compiled | ratio | first call, s more |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    print("\n".join(lines), flush=True)
    for name in names:
        lines.append(row(name, options.rounds))
        print(lines[-1], flush=True)
    if options.write:
        (RESULTS / "compiled.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
