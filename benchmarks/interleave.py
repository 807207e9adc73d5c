"""Systems measured in turn, each in a process of its own, as in use."""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

import torch

from retain.ops.products import matmul

Run = Callable[[int], None]
"""Learns from that many steps more."""


def serve(build: Callable[[], Run], pipe: Connection) -> None:
    """Builds a system and answers (steps, threads) with steps per second, while anyone asks."""
    run = build()
    while True:
        try:
            steps, threads = pipe.recv()
        except EOFError:
            return
        torch.set_num_threads(threads)
        began = time.perf_counter()
        run(steps)
        pipe.send(steps / (time.perf_counter() - began))


class System:
    """A system in its own process."""

    def __init__(self, build: Callable[[], Run]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(build, theirs), daemon=True)
        self.process.start()

    def __call__(self, steps: int, threads: int) -> float:
        self.pipe.send((steps, threads))
        return float(self.pipe.recv())


def interleaved(
    builds: Mapping[str, Callable[[], Run]], steps: Mapping[str, int], rounds: int
) -> dict[tuple[str, int], float]:
    """Median steps per second over the rounds by (name, threads), with 1 and with 2 threads."""
    systems = {name: System(build) for name, build in builds.items()}
    for name, system in systems.items():
        system(steps[name], 1)
    rates: dict[tuple[str, int], list[float]] = {(n, k): [] for n in systems for k in (1, 2)}
    for _ in range(rounds):
        for name, threads in rates:
            rates[name, threads].append(systems[name](steps[name], threads))
    return {key: statistics.median(values) for key, values in rates.items()}


def best_of(median: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Each system's better median, with 1 or with 2 threads."""
    return {name: max(median[name, 1], median[name, 2]) for name, _ in median}


def rate_lines(median: Mapping[tuple[str, int], float]) -> list[str]:
    """A table of steps per second."""
    lines = ["| system | 1 thread | 2 threads | steps/s |", "|---|---|---|---|"]
    return lines + [
        f"| {name} | {median[name, 1]:,.0f} | {median[name, 2]:,.0f} | {rate:,.0f} |"
        for name, rate in best_of(median).items()
    ]


def ratio_lines(best: Mapping[str, float], ratios: tuple[tuple[str, str, float], ...]) -> list[str]:
    """A table of ratios and their goals."""
    lines = ["", "| ratio | measured | goal |", "|---|---|---|"]
    for one, other, goal in ratios:
        if one in best and other in best:
            lines.append(f"| {one} / {other} | {best[one] / best[other]:.2f} | {goal} |")
    return lines


def matmul_roof(threads: int = 1) -> float:
    """GFLOP/s of a float32 product, by the quicker of torch's two libraries."""
    torch.set_num_threads(threads)
    a, b = torch.randn(2, 1024, 1024)
    return max(gflops(a, b, by) for by in (torch.mm, matmul))


def gflops(a: torch.Tensor, b: torch.Tensor, product: Callable[..., torch.Tensor]) -> float:
    """The best of 50 products `[M, K] @ [K, N]`."""
    best = math.inf
    for _ in range(50):
        began = time.perf_counter()
        product(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * len(a) * b.numel() / best / 1e9
