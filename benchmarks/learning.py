"""Learning results: every task of the table on several seeds, with the presets users get.

    python benchmarks/learning.py --seeds 5 --jobs 2 --write

Prints one row a task: the return of 20 deterministic evaluation episodes of the final agent for
each seed (not of the best checkpoint), the number of seeds that meet the goal, and time.
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from machine import machine_line

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Task:
    """A goal: `need` of the seeds reach it, or the median does where `need` is None."""

    env: str
    memory: str
    steps: int
    goal: float
    need: int | None = 5
    peer: str = ""


TASKS = (
    Task("CartPole-v1", "none", 100_000, 500, None, "rl-zoo 500"),
    Task("Acrobot-v1", "none", 500_000, -90, None, "CleanRL -86.4 ± 1.3"),
    Task("Pendulum-v1", "none", 100_000, -200, None, "rl-zoo -172"),
    Task("CartPoleNoVel-v1", "lstm", 100_000, 475, 4, "rl-zoo 500 ± 0"),
    Task("CartPoleNoVel-v1", "gru", 100_000, 475, 4, ""),
    Task("PendulumNoVel-v1", "lstm", 100_000, -250, None, "rl-zoo -218 ± 140"),
    Task("MountainCarContinuousNoVel-v0", "lstm", 300_000, 88, 4, "rl-zoo 91.5 ± 1.8"),
)


def one(task: Task, seed: int) -> tuple[float, float]:
    """Trains one seed; evaluation return and training seconds."""
    import retain

    agent = retain.PPO(task.env, memory=task.memory, seed=seed)
    began = time.perf_counter()
    agent.learn(task.steps)
    seconds = time.perf_counter() - began
    return agent.evaluate(20).return_mean, seconds


def row(task: Task, returns: list[float], seconds: list[float]) -> str:
    """The table's line for a task."""
    median = statistics.median(returns)
    met = sum(value >= task.goal for value in returns)
    enough = median >= task.goal if task.need is None else met >= task.need
    goal = f"{task.goal:g} median" if task.need is None else f"{task.goal:g} on {task.need}"
    return (
        f"| {task.env} | {task.memory} | {task.steps // 1000}k | "
        f"{' '.join(f'{value:.0f}' for value in returns)} | {median:.1f} | "
        f"{goal}: {'met' if enough else 'missed'} ({met}/{len(returns)}) | {task.peer} | "
        f"{statistics.median(seconds):.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of an environment's or memory's name")
    parser.add_argument("--write", action="store_true", help="write results/learning.md")
    options = parser.parse_args()
    tasks = [task for task in TASKS if options.only in f"{task.env} {task.memory}"]
    lines = [
        f"# Learning\n\n{machine_line()}\n",
        "`python benchmarks/learning.py`: presets, 20 deterministic episodes of the final agent.\n",
        "| environment | memory | steps | return of each seed | median | goal | peer | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        futures = {
            task: [pool.submit(one, task, seed) for seed in range(1, options.seeds + 1)]
            for task in tasks
        }
        for task, waiting in futures.items():
            returns, seconds = zip(*(future.result() for future in waiting), strict=True)
            lines.append(row(task, list(returns), list(seconds)))
            print(lines[-1], flush=True)
    if options.write:
        (RESULTS / "learning.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
