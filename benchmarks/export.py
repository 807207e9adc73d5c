"""Exported policies beside their agents: the largest difference over 200 steps, latency, file size.

    python benchmarks/export.py --write

Every memory with every algorithm. Random weights, observations and resets (5 % of the steps), two
environments, each side with a carry of its own; onnxruntime and torch.export with one thread.
Latency is one step of one environment, the median over repeated steps. Exits with 1 if any
difference exceeds 1e-5.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

import retain
from machine import machine_line
from retain.export.check import arguments, largest_difference, zeros
from retain.export.onnx import OnnxPolicy
from retain.export.torch_export import TorchPolicy
from retain.memory import MEMORIES

RESULTS = Path(__file__).parent / "results"
EXACT = 1e-5
SEEN = spaces.Box(-1, 1, (16,), np.float32)
BOX, CHOICE = spaces.Box(-2, 2, (4,), np.float32), spaces.Discrete(6)
ALGORITHMS = {
    "PPO": BOX, "A2C": BOX, "VTrace": BOX, "PQN": CHOICE, "DQN": CHOICE, "QRDQN": CHOICE,
    "DDPG": BOX, "TD3": BOX, "SAC": BOX, "TQC": BOX, "SAC, Discrete": CHOICE,
}  # fmt: skip
FORMATS = {".onnx": OnnxPolicy, ".pt2": TorchPolicy}


class Anything(gym.Env):
    """An environment of given spaces; it is never stepped."""

    def __init__(self, actions: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = SEEN, actions


def agent_of(algo: str, memory: str) -> Any:
    """An agent with random weights of a trained agent's size."""
    kind, actions = getattr(retain, algo.partition(",")[0]), ALGORITHMS[algo]
    wide = {} if memory == "none" else {"memory": memory, "memory_hidden": 64}
    agent = kind(lambda: Anything(actions), num_envs=1, preset="none", hidden=(64, 64), **wide)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return agent


def microseconds(step: Callable[[], Any], rounds: int) -> float:
    """The median of single calls, after some for warmth."""
    for _ in range(20):
        step()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        step()
        taken.append(time.perf_counter_ns() - began)
    return statistics.median(taken) / 1e3


def stepper(run: Callable[..., Any], inputs: Any) -> Callable[[], None]:
    """One step of a file with one environment."""
    obs, reset, reward = np.zeros((1, 16), np.float32), np.zeros(1, np.bool_), np.zeros(1, "f4")
    carry = zeros(inputs, 1)

    def step() -> None:
        _, *carry[:] = run(*arguments(inputs, obs, carry, reset, reward))

    return step


def rows(rounds: int) -> Iterator[tuple[str, list[float]]]:
    """Each cell with its differences, its latencies and its sizes."""
    for algo in ALGORITHMS:
        for memory in sorted(MEMORIES):
            agent = agent_of(algo, memory)
            obs, kept = np.zeros((1, 16), np.float32), [agent.initial_carry(1)]

            def act(agent: Any = agent, obs: Any = obs, kept: Any = kept) -> None:
                _, kept[0] = agent.act(obs, kept[0], deterministic=True, reward=0.0)

            differences, sizes, latencies = [], [], [microseconds(act, rounds)]
            with tempfile.TemporaryDirectory() as folder:
                for ending, kind in FORMATS.items():
                    made = agent.export(Path(folder) / f"policy{ending}")
                    run = kind(made.path)
                    differences.append(largest_difference(agent, run, made.inputs))
                    latencies.append(microseconds(stepper(run, made.inputs), rounds))
                    sizes.append(made.path.stat().st_size / 1000)
            yield f"{algo} | {memory}", [*differences, *latencies, *sizes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="write results/export.md")
    parser.add_argument("--note", default="", help="a sentence about the machine")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"# Exported policies beside their agents\n\n{machine_line()}. {options.note}\n",
        "`python benchmarks/export.py`: 16 observations, memory 64 wide, MLP (64, 64), random "
        "weights. Difference: the largest of 200 steps over several episodes, file against "
        "`agent.act`, each with its own carry (Box actions lie in [-2, 2]). Latency: one step of "
        "one environment. PQN, DQN, QRDQN and the last SAC choose among 6 actions, which are "
        "equal or not.\n",
        "| algorithm | memory | difference, ONNX | torch | `agent.act`, us | onnxruntime, us | "
        "torch.export, us | .onnx, kB | .pt2, kB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    worst = 0.0
    for name, (onnx, torch_, act, onnx_us, torch_us, onnx_kb, torch_kb) in rows(options.rounds):
        worst = max(worst, onnx, torch_)
        lines.append(
            f"| {name} | {onnx:.1e} | {torch_:.1e} | {act:.0f} | {onnx_us:.0f} | {torch_us:.0f} | "
            f"{onnx_kb:.0f} | {torch_kb:.0f} |"
        )
        print(lines[-1], flush=True)
    lines.append(f"\nLargest difference of all: {worst:.1e}.")
    print(lines[-1])
    if options.write:
        (RESULTS / "export.md").write_text("\n".join(lines) + "\n")
    return int(worst > EXACT)


if __name__ == "__main__":
    sys.exit(main())
