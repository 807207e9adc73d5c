"""The native kernels beside torch's, on the same numbers in turn (docs/speed.md).

    python benchmarks/kernels.py --write

One thread, CPU time of the thread, medians, forward and backward unless it says acting: other load
on the machine changes the times, the ratios far less. With `--threads 2`, wall-clock time, which
needs an idle machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

import retain
from interleave import product_lines
from machine import machine_line
from retain.memory import GRU, LSTM, Memory
from retain.nn.stacked import StackedMLP
from retain.ops.native.library import Kernels, processor
from retain.train.allocator import keep_freed_memory
from retain.types import Carry

RESULTS = Path(__file__).parent / "results"
T, H = 128, 128
STACKS = (  # of K MLPs, rows, input, layers, activation, output
    (2, 256, 4, (64, 64), "tanh", None),
    (2, 2048, 4, (64, 64), "tanh", None),
    (1, 256, 4, (256, 256), "relu", 2),
    (2, 256, 4, (256, 256), "relu", 1),
    (2, 256, 64, (256, 256), "relu", 1),
)
AGENTS: dict[str, tuple[str, str, dict[str, object], int]] = {
    "PPO, 8 environments": (
        "PPO", "CartPole-v1", {"num_envs": 8, "preset": "none"}, 2048,
    ),
    "PPO, LSTM(128), 8 environments": (
        "PPO", "CartPoleNoVel-v1",
        {"num_envs": 8, "memory": "lstm", "memory_hidden": 128, "preset": "none"}, 2048,
    ),
    "PPO, GRU(128), 8 environments": (
        "PPO", "CartPoleNoVel-v1",
        {"num_envs": 8, "memory": "gru", "memory_hidden": 128, "preset": "none"}, 2048,
    ),
    "SAC, [256, 256], batch 256": (
        "SAC", "Pendulum-v1",
        {"hidden": (256, 256), "batch_size": 256, "num_envs": 1, "update_ratio": 1.0,
         "learning_starts": 300, "preset": "none"}, 100,
    ),
}  # fmt: skip
"""The algorithm, the environment, its settings, and the steps that are timed at once."""

Clock = Callable[[], float]


def interleaved(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Clock
) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 3):
        for name, run in runs.items():
            began = clock()
            run()
            if number >= 3:
                times[name].append(1e3 * (clock() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def unroll(memory: Memory, x: torch.Tensor, carry: Carry, reset: torch.Tensor) -> None:
    memory.zero_grad()
    memory(x, carry, reset)[0].sum().backward()


@torch.no_grad()
def act(memory: Memory, x: torch.Tensor, carry: Carry, reset: torch.Tensor) -> None:
    memory(x, carry, reset)


def train(stack: StackedMLP, x: torch.Tensor, pull: torch.Tensor) -> None:
    stack.zero_grad()
    stack.stacked(x).backward(pull)


def recurrences(rounds: int, clock: Clock) -> list[str]:
    lines = [
        f"T = {T}, H = {H}, D = 4, 3 % resets, ms:\n",
        "| memory | B | torch | torch, no resets | native | torch / native | native, GFLOP/s |"
        " acting, torch | acting, native |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in (LSTM, GRU):
        for B in (1, 2, 8, 32):
            ours, theirs = kind(4, H, kernels="native"), kind(4, H)
            x, carry = torch.randn(T, B, 4), ours.initial_carry(B)
            none = torch.zeros(T, B, dtype=torch.bool)
            some = torch.rand(T, B) < 0.03

            ms = interleaved(
                {"torch": partial(unroll, theirs, x, carry, some),
                 "none": partial(unroll, theirs, x, carry, none),
                 "native": partial(unroll, ours, x, carry, some)}, rounds, clock,
            )  # fmt: skip
            us = interleaved(
                {name: partial(act, memory, x[:1], carry, none[:1])
                 for name, memory in (("torch", theirs), ("native", ours))}, 20 * rounds, clock,
            )  # fmt: skip
            flops = 3 * 2 * T * B * ours.gates * H * (4 + H)
            lines.append(
                f"| {kind.__name__} | {B} | {ms['torch']:.2f} | {ms['none']:.2f} | "
                f"{ms['native']:.2f} | {ms['torch'] / ms['native']:.2f} | "
                f"{flops / ms['native'] / 1e6:.0f} | {1e3 * us['torch']:.0f} us | "
                f"{1e3 * us['native']:.0f} us |"
            )
    return lines


def stacks(rounds: int, clock: Clock) -> list[str]:
    lines = [
        "| K | rows | input | layers | activation | torch, ms | native, ms | torch / native |"
        " native, GFLOP/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for K, N, D, hidden, activation, out in STACKS:
        both = {k: StackedMLP(K, D, hidden, activation, out=out, kernels=k) for k in KERNELS}
        x = torch.randn(K, N, D)
        pull = torch.randn(K, N, both["torch"].features)

        ms = interleaved({k: partial(train, both[k], x, pull) for k in both}, rounds, clock)
        weights = [p for p in both["torch"].parameters() if p.shape[1] > 1]
        flops = 3 * 2 * N * sum(weight.numel() for weight in weights)
        lines.append(
            f"| {K} | {N} | {D} | {list(hidden)} | {activation} | {ms['torch']:.3f} | "
            f"{ms['native']:.3f} | {ms['torch'] / ms['native']:.2f} | "
            f"{flops / ms['native'] / 1e6:.0f} |"
        )
    return lines


KERNELS: tuple[Kernels, ...] = ("torch", "native")


def agents(rounds: int, clock: Clock, threads: int) -> list[str]:
    lines = [
        "Whole agents, acting and learning, steps a second:\n",
        "| agent | torch | native | native / torch |",
        "|---|---|---|---|",
    ]
    for name, (algo, env, settings, steps) in AGENTS.items():
        both = {
            k: getattr(retain, algo)(env, kernels=k, threads=threads, seed=1, **settings)
            for k in KERNELS
        }
        for agent in both.values():
            agent.learn(max(steps, 400))
        ms = interleaved(
            {k: partial(agent.learn, steps) for k, agent in both.items()},
            max(8, rounds // 4), clock,
        )  # fmt: skip
        rate = {k: 1e3 * steps / ms[k] for k in ms}
        lines.append(
            f"| {name} | {rate['torch']:,.0f} | {rate['native']:,.0f} | "
            f"{rate['native'] / rate['torch']:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write results/kernels*.md")
    options = parser.parse_args()
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    measured = "CPU time" if options.threads == 1 else "wall-clock time"
    parts = [
        [f"# Native kernels\n\n{machine_line()}, {processor()}\n"],
        [f"`python benchmarks/kernels.py --threads {options.threads}`, {measured}, medians.\n"],
        product_lines(),
        recurrences(options.rounds, clock),
        stacks(options.rounds, clock),
        agents(options.rounds, clock, options.threads),
    ]
    text = "\n\n".join("\n".join(part).strip() for part in parts) + "\n"
    print(text)
    if options.write:
        name = "kernels" if options.threads == 1 else f"kernels_{options.threads}_threads"
        (RESULTS / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
