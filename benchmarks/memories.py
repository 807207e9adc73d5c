"""What the memories cost beside our LSTM: unrolls with their gradients, and acting.

    python benchmarks/memories.py --write

Forward and backward at T = 128 and 1024, D = 64, H = 128, 3 % resets; acting is one step without
gradient. One thread, interleaved, medians of the thread's CPU time, which neighbours on the machine
disturb less than the clock. Everything is divided by the LSTM's time in the same round.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from machine import machine_line
from retain.memory import MEMORIES, Memory, make_memory
from retain.nn.lookup import find_submodules_directly
from retain.ops import linear_recurrence
from retain.train.allocator import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
D, H = 64, 128
SHAPES = ((1, 8), (128, 2), (128, 8), (128, 32), (1024, 2), (1024, 8), (1024, 32))
BASE = "lstm"
GOALS = {
    ("mingru", 128, 2): 1.0, ("mingru", 128, 8): 0.8, ("mingru", 1, 8): 1.1,
    ("scan alone", 128, 2): 0.35, ("scan alone", 128, 8): 0.35, ("scan alone", 128, 32): 0.35,
    ("lru", 128, 2): 0.8, ("lru", 128, 8): 0.8, ("lru", 128, 32): 0.8,
    ("attention", 128, 2): 2.0, ("attention", 128, 8): 2.0, ("attention", 128, 32): 2.0,
}  # fmt: skip
"""Largest ratios that were aimed at."""


def microseconds(run: Callable[[], None]) -> float:
    began = time.thread_time_ns()
    run()
    return (time.thread_time_ns() - began) / 1e3


def memory_run(memory: Memory, T: int, B: int) -> Callable[[], None]:
    """One unroll with its gradients, or one step of acting."""
    find_submodules_directly(memory)  # as networks do
    x, carry, reset = torch.randn(T, B, D), memory.initial_carry(B), torch.rand(T, B) < 0.03

    def act() -> None:
        with torch.inference_mode():
            memory.forward(x, carry, reset)

    def learn() -> None:
        memory.zero_grad()
        memory.forward(x, carry, reset)[0].sum().backward()

    return act if T == 1 else learn


def scan_run(T: int, B: int) -> Callable[[], None]:
    """The linear recurrence by itself."""
    decay, input = torch.rand(T, B, H, requires_grad=True), torch.randn(T, B, H, requires_grad=True)
    reset, initial = torch.rand(T, B) < 0.03, torch.zeros(B, H)

    def learn() -> None:
        decay.grad = input.grad = None
        out = linear_recurrence(decay=decay, input=input, reset=reset, initial=initial)
        out.sum().backward()

    return learn


def measure(runs: Mapping[str, Callable[[], None]], rounds: int) -> tuple[float, dict[str, float]]:
    """The LSTM's microseconds, and every run's ratio to it: medians over the rounds."""
    for run in runs.values():
        run()
    rows = [{name: microseconds(run) for name, run in runs.items()} for _ in range(rounds)]
    base = statistics.median(row[BASE] for row in rows)
    ratios = {name: statistics.median(row[name] / row[BASE] for row in rows) for name in runs}
    return base, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="write results/memories.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    names = [name for name in MEMORIES if name not in ("none", "window")]
    columns = [name for name in names if name != BASE] + ["scan alone"]
    lines = [
        f"# Memories beside the LSTM\n\n{machine_line()}\n",
        "`python benchmarks/memories.py`: D = 64, H = 128, one thread; forward and backward at 3 % "
        "resets, or one step of acting (T = 1). Ratios to the LSTM of the same round; in brackets "
        "the ratio aimed at where there is one.\n",
        "| T | B | LSTM, us | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 3),
    ]
    print("\n".join(lines))
    for T, B in SHAPES:
        torch.manual_seed(0)
        runs = {name: memory_run(make_memory(name, D, H), T, B) for name in names}
        if T > 1:
            runs["scan alone"] = scan_run(T, B)
        rounds = options.rounds * 10 if T == 1 else max(8, options.rounds * 128 // T // (B // 2))
        base, ratios = measure(runs, rounds)
        cells = []
        for name in columns:
            goal = GOALS.get((name, T, B))
            cells.append(
                f"{ratios[name]:.2f}" + (f" ({goal})" if goal else "") if name in ratios else "-"
            )
        lines.append(f"| {T} | {B} | {base:,.0f} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if options.write:
        (RESULTS / "memories.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
