"""Systems measured in turn, each in a process of its own, as in use."""

import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from machine import machine_line
from retain.ops.products import large_product, matmul

Run = Callable[[int], None]
"""Learns from that many steps more."""
HOW: dict[str, dict[str, Any]] = {
    "": {}, " --compile": {"compile": True}, " --kernels native": {"kernels": "native"},
    " --compile --kernels native": {"compile": True, "kernels": "native"},
}  # fmt: skip
"""How a gradient step is computed: the flags, and the settings."""


def serve(build: Callable[[], Run], pipe: Connection, cores: int) -> None:
    """Builds a system and answers (steps, threads) with steps per second, while anyone asks."""
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
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
    """A system in its own process, on the first `cores` cores; 0: on all."""

    def __init__(self, build: Callable[[], Run], cores: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(build, theirs, cores), daemon=True)
        self.process.start()

    def __call__(self, steps: int, threads: int) -> float:
        self.pipe.send((steps, threads))
        return float(self.pipe.recv())


def interleaved(
    builds: Mapping[str, Callable[[], Run]], steps: Mapping[str, int], rounds: int
) -> dict[tuple[str, int], float]:
    """Median steps per second over the rounds by (name, threads), with 1 and with 2 threads.

    JAX decides at its start how many threads it has, and a graph when it is compiled, so SBX and
    what is compiled have a process for each number.
    """
    systems: dict[tuple[str, int], System] = {}
    for name, build in builds.items():
        apart = name.startswith("SBX") or "--compile" in name
        systems[name, 1] = System(build, int(name.startswith("SBX")))
        systems[name, 2] = System(build) if apart else systems[name, 1]
    for (name, threads), system in systems.items():
        system(steps[name], threads)
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in systems}
    for _ in range(rounds):
        for (name, threads), system in systems.items():
            rates[name, threads].append(system(steps[name], threads))
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


def report_lines(
    title: str,
    command: str,
    products: list[str],
    median: Mapping[tuple[str, int], float],
    ratios: tuple[tuple[str, str, float], ...],
) -> list[str]:
    """A page's head, the product rates, the steps per second and their ratios."""
    head = [f"# {title}\n\n{machine_line()}\n", f"`{command}`\n", *products, ""]
    return head + rate_lines(median) + ratio_lines(best_of(median), ratios)


def product_lines() -> list[str]:
    """A table of the rates of float32 products by each of torch's libraries, one thread."""
    torch.set_num_threads(1)
    lines = ["| float32 product, 1 thread | MKL, GFLOP/s | oneDNN, GFLOP/s |", "|---|---|---|"]
    for size in (256, 1024):
        a, b = torch.randn(2, size, size)
        mkl, onednn = gflops(a, b, torch.mm), gflops(a, b, large_product)
        lines.append(f"| {size} x {size} x {size} | {mkl:.0f} | {onednn:.0f} |")
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
