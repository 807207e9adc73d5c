"""What oneDNN's products and freed memory that is kept bring on a CPU (docs/speed.md).

python benchmarks/cpu.py --write
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import retain
from interleave import gflops
from machine import machine_line
from retain.ops.products import large_product

RESULTS = Path(__file__).parent / "results"
SHAPES = ((256, 64, 64), (256, 128, 64), (256, 256, 256), (2048, 64, 64), (256, 3136, 512))


def products() -> list[str]:
    torch.set_num_threads(1)
    lines = ["| float32 product, 1 thread | MKL, GFLOP/s | oneDNN, GFLOP/s | ratio |",
             "|---|---|---|---|"]  # fmt: skip
    for rows, inputs, outputs in SHAPES:
        a, b = torch.randn(rows, inputs), torch.randn(inputs, outputs)
        ours, theirs = gflops(a, b, large_product), gflops(a, b, torch.mm)
        lines.append(f"| {rows} x {inputs} x {outputs} | {theirs:.0f} | {ours:.0f} | "
                     f"{ours / theirs:.2f} |")  # fmt: skip
    return lines


def update_ms() -> float:
    """Milliseconds of PPO's update on 64 environments, minibatches of 2048."""
    torch.set_num_threads(1)
    agent = retain.PPO("CartPole-v1", num_envs=64, num_steps=128, batch_size=2048, epochs=4,
                       hidden=(64, 64))  # fmt: skip
    times = []
    for _ in range(8):
        rollout = agent.collector.collect(128)
        began = time.perf_counter()
        agent.update.update(rollout, 0.0)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[2:])


def memory(rounds: int) -> list[str]:
    kept: list[float] = []
    returned: list[float] = []
    for _ in range(rounds):
        for found, extra in ((kept, {}), (returned, {"MALLOC_ARENA_MAX": "8"})):
            done = subprocess.run([sys.executable, __file__, "--child"], env=os.environ | extra,
                                  capture_output=True, text=True, check=True)  # fmt: skip
            found.append(float(done.stdout.split()[-1]))
    ours, theirs = statistics.median(kept), statistics.median(returned)
    return [
        "",
        "PPO's update, 64 environments, minibatches of 2048, one thread: "
        f"{ours:.1f} ms with freed memory kept, {theirs:.1f} ms with glibc's defaults "
        f"({1 - ours / theirs:.0%} less); medians of {rounds} processes each, in turn.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write results/cpu.md")
    options = parser.parse_args()
    if options.child:
        print(update_ms())
        return
    lines = [
        f"# Products and memory on a CPU\n\n{machine_line()}\n",
        "`python benchmarks/cpu.py`\n",
    ]
    text = "\n".join([*lines, *products(), *memory(options.rounds)]) + "\n"
    print(text)
    if options.write:
        (RESULTS / "cpu.md").write_text(text)


if __name__ == "__main__":
    main()
