"""The fused unroll with resets against the step loop and against a call without resets.

    python benchmarks/unroll.py --write

Forward and backward, T = 128, H = 128, one thread, interleaved, medians. The reset tax is the fused
unroll at 3 % resets over the same call without any.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from interleave import matmul_roof
from machine import machine_line
from retain.memory import GRU, LSTM, step_loop

RESULTS = Path(__file__).parent / "results"
T, H = 128, 128


def timed(run: Callable[[], None]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e3


def case(kind: type[LSTM] | type[GRU], B: int, D: int, rounds: int, roof: float) -> str:
    """One line of the table."""
    torch.manual_seed(0)
    memory = kind(D, H)
    x, carry = torch.randn(T, B, D), memory.initial_carry(B)
    none = torch.zeros(T, B, dtype=torch.bool)
    some = torch.rand(T, B) < 0.03

    def run(unroll: Callable[..., tuple[torch.Tensor, object]], reset: torch.Tensor) -> None:
        memory.zero_grad()
        out, _ = unroll(x, carry, reset)
        out.sum().backward()

    def loop(*inputs: torch.Tensor) -> tuple[torch.Tensor, object]:
        return step_loop(memory, *inputs)

    runs: dict[str, Callable[[], None]] = {
        "plain": lambda: run(memory, none),
        "fused": lambda: run(memory, some),
        "loop": lambda: run(loop, some),
    }
    for each in runs.values():
        each()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, each in runs.items():
            if name != "loop" or number % 5 == 0:
                times[name].append(timed(each))
    plain, fused, slow = (statistics.median(times[name]) for name in runs)
    flops = 3 * 2 * T * B * memory.gates * H * (D + H)
    share = flops / (fused * 1e-3) / 1e9 / roof
    return (
        f"| {kind.__name__} | {B} | {D} | {slow:.1f} | {fused:.2f} | {plain:.2f} | "
        f"{slow / fused:.1f} | {fused / plain:.2f} | {share:.0%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="write results/unroll.md")
    options = parser.parse_args()
    roof = matmul_roof()
    torch.set_num_threads(1)
    lines = [
        f"# Fused unroll\n\n{machine_line()}\n",
        "`python benchmarks/unroll.py`: forward and backward, T = 128, H = 128, one thread, ms.\n",
        "| memory | B | D | step loop | fused, 3 % resets | no resets | loop / fused | reset tax |"
        f" of {roof:.0f} GFLOP/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for kind in (LSTM, GRU):
        for B in (2, 8, 32):
            for D in (4, 64):
                lines.append(case(kind, B, D, options.rounds, roof))
                print(lines[-1], flush=True)
    if options.write:
        (RESULTS / "unroll.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
