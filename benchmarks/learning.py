"""Learning results: every task of the table on several seeds, with the presets users get.

    python benchmarks/learning.py --seeds 5 --jobs 2 --write
    python benchmarks/learning.py --only A2C "QRDQN CartPoleNoVel" --minutes 30 --write
    python benchmarks/learning.py --launcher ray --address auto --write

Every finished run is a line of results/learning.jsonl, and none is trained twice: the same command
goes on where it was stopped, by --minutes or otherwise (delete the lines and the run folders in
--out to train again). Prints
one row a task: the return of 20 deterministic evaluation episodes of the final agent for
each seed (not of the best checkpoint), the number of seeds that meet the goal, and time. Where a
goal is about training itself ("within"), the mean of ten training episodes in a row counts
instead, with the episode at which it got there; training stops then.
With --write, rows of tasks without all their seeds stay as the table has them.
"""

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from launching import add_flags, chosen_launcher, work
from machine import machine_line
from retain.errors import RetainError
from retain.study.launcher import Launcher
from retain.study.outcome import Outcome, RunPlan
from retain.train.plot import read_curve
from watch import watched

RESULTS = Path(__file__).parent / "results"
RUNS = RESULTS / "learning.jsonl"


@dataclass(frozen=True)
class Task:
    """A goal: `need` of the seeds reach it, or the median does where `need` is None."""

    env: str
    memory: str
    steps: int
    goal: float
    need: int | None = None
    peer: str = ""
    algo: str = "PPO"
    within: bool = False
    """The goal is a mean of ten training episodes, at any time."""
    below: bool = False
    """The goal is not to be passed: what no memory can do."""
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def what(self) -> str:
        """The memory, and what was set besides the preset."""
        set_ = (name if value is True else str(value) for name, value in self.settings)
        return " ".join([self.memory, *set_])


def window(length: int, summary: str) -> tuple[tuple[str, object], ...]:
    return (("window", length), ("summary", summary))


OVERLAP = (("overlap", True),)

TASKS = (
    Task("CartPole-v1", "none", 100_000, 500, None, "rl-zoo 500"),
    Task("Acrobot-v1", "none", 500_000, -90, None, "CleanRL -86.4 ± 1.3"),
    Task("Pendulum-v1", "none", 100_000, -200, None, "rl-zoo -172"),
    Task("CartPoleNoVel-v1", "lstm", 100_000, 475, 4, "rl-zoo 500 ± 0"),
    Task("CartPoleNoVel-v1", "gru", 100_000, 475, 4, ""),
    Task("PendulumNoVel-v1", "lstm", 100_000, -250, None, "rl-zoo -218 ± 140"),
    Task("MountainCarContinuousNoVel-v0", "lstm", 300_000, 88, 4, "rl-zoo 91.5 ± 1.8"),
    Task("RepeatPrevious-v0", "lstm", 1_000_000, 0.9, None, "optimum 1"),
    Task("RepeatPrevious-v0", "none", 200_000, -0.4, 5, "memoryless -0.5", below=True),
    Task("TMaze-v0", "lstm", 300_000, 0.9, None, "optimum 1"),
    Task("TMaze-v0", "none", 200_000, 0.5, 5, "memoryless 0", below=True),
    Task("InvertedDoublePendulum-v5", "none", 300_000, 5000, None, ""),
    Task("HalfCheetah-v5", "none", 1_000_000, 1443, None, "CleanRL 1443"),
    Task("Walker2d-v5", "none", 1_000_000, 2288, None, "CleanRL 2288"),
    Task("Hopper-v5", "none", 1_000_000, 2383, None, "CleanRL 2383"),
    Task("CartPole-v1", "none", 100_000, 500, None, "", settings=OVERLAP),
    Task("Pendulum-v1", "none", 100_000, -200, None, "", settings=OVERLAP),
    Task("CartPoleNoVel-v1", "lstm", 100_000, 475, 4, "", settings=OVERLAP),
    Task("PendulumNoVel-v1", "lstm", 100_000, -250, None, "", settings=OVERLAP),
    Task("Pendulum-v1", "none", 20_000, -250, 4, "", "DDPG", within=True),
    Task("Pendulum-v1", "none", 20_000, -200, None, "rl-zoo -152", "TD3"),
    Task("Pendulum-v1", "none", 20_000, -200, None, "rl-zoo -157", "SAC"),
    Task("Pendulum-v1", "window", 48_000, -300, 4, "Pearl's first: near -1000", "DDPG",
         within=True, settings=window(8, "lstm")),
    Task("Pendulum-v1", "window", 48_000, -300, 4, "Pearl's first: near -1000", "DDPG",
         within=True, settings=window(32, "lstm")),
    Task("PendulumNoVel-v1", "lstm", 30_000, -200, None, "pomdp-baselines -184 at 31k", "TD3"),
    Task("PendulumNoVel-v1", "lstm", 30_000, -200, None, "", "SAC"),
    Task("PendulumNoVel-v1", "window", 30_000, -200, None, "", "DDPG",
         settings=window(3, "stack")),
    Task("PendulumNoVel-v1", "none", 30_000, -800, 5, "", "DDPG", below=True),
    Task("CartPoleNoVel-v1", "lstm", 100_000, 400, None, "", "DQN"),
    Task("CartPoleNoVel-v1", "none", 100_000, 100, 5, "", "DQN", below=True),
    Task("CartPole-v1", "none", 500_000, 500, None, "rl-zoo 500", "A2C"),
    Task("CartPoleNoVel-v1", "lstm", 200_000, 475, None, "", "A2C"),
    Task("CartPole-v1", "none", 200_000, 500, None, "rl-zoo PPO 500 at 100k", "VTrace"),
    Task("CartPoleNoVel-v1", "lstm", 200_000, 475, None, "", "VTrace"),
    Task("CartPole-v1", "none", 200_000, 500, None, "rl-zoo DQN 500 at 50k", "PQN"),
    Task("CartPoleNoVel-v1", "lstm", 300_000, 475, None, "", "PQN"),
    Task("CartPole-v1", "none", 50_000, 500, None, "rl-zoo 500", "QRDQN"),
    Task("CartPoleNoVel-v1", "lstm", 100_000, 400, None, "", "QRDQN"),
    Task("Pendulum-v1", "none", 20_000, -200, None, "rl-zoo SAC -157", "TQC"),
    Task("PendulumNoVel-v1", "lstm", 30_000, -200, None, "", "TQC"),
)  # fmt: skip


Result = tuple[float, float, int]
"""A run's return, training seconds, and training episodes."""


def plan(task: Task, seed: int, out: Path) -> RunPlan:
    """The run of a seed."""
    watch = f"watch:Above{-task.goal:.0f}" if task.within else "watch:Watch"
    settings = {"memory": task.memory, "seed": seed, "threads": 1} | dict(task.settings)
    name = f"{task.algo} {task.env} {task.what} {task.steps}".replace("/", "-").replace(" ", "_")
    return RunPlan(
        task.env, task.algo.lower(), settings | {"callbacks": (watch,)}, task.steps,
        out / name / f"seed{seed}", episodes=20, trial=True,
    )  # fmt: skip


def result(task: Task, folder: Path, outcome: Outcome) -> Result:
    """What a run came to."""
    if math.isnan(outcome.evaluation):
        raise SystemExit(f"{folder}: a loss was not finite")
    found, (_, seconds) = watched(folder), read_curve(folder, "seconds")
    value = statistics.mean(found["last"]) if task.within else outcome.evaluation
    return value, float(seconds[-1]), found["episodes"]


def row(task: Task, results: list[Result]) -> str:
    """The table's line for a task."""
    returns = [value for value, _, _ in results]
    shown = [
        f"{v:.{2 * (abs(v) < 10)}f}" + f"@{episode}" * task.within for v, _, episode in results
    ]
    median = statistics.median(returns)
    met = sum((value >= task.goal) != task.below for value in returns)
    enough = (median >= task.goal) != task.below if task.need is None else met >= task.need
    goal = ("below " if task.below else "") + f"{task.goal:g}"
    goal += " median" if task.need is None else f" on {task.need}"
    goal += " within" if task.within else ""
    return (
        f"{key(task)}{' '.join(shown)} | {median:.1f} | "
        f"{goal}: {'met' if enough else 'missed'} ({met}/{len(returns)}) | {task.peer} | "
        f"{statistics.median(seconds for _, seconds, _ in results):.0f} s |"
    )


def key(task: Task) -> str:
    """The columns that say which row it is."""
    return f"| {task.algo} | {task.env} | {task.what} | {task.steps // 1000}k | "


def identity(task: Task, seed: int) -> dict[str, object]:
    """What a run was, as the file of runs keeps it."""
    return {
        "algo": task.algo,
        "env": task.env,
        "what": task.what,
        "steps": task.steps,
        "seed": seed,
    }


def known() -> dict[str, Result]:
    """The runs that are done, by their identity."""
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    return {json.dumps(run["run"]): tuple(run["result"]) for run in map(json.loads, lines)}


def missing(tasks: list[Task], seeds: int) -> list[tuple[Task, int]]:
    """The runs still to be trained, a seed of every task before the next seed."""
    done = known()
    every = [(task, seed) for seed in range(1, seeds + 1) for task in tasks]
    return [(task, seed) for task, seed in every if json.dumps(identity(task, seed)) not in done]


def train(todo: list[tuple[Task, int]], launcher: Launcher, out: Path, until: float) -> None:
    """Trains runs and notes each in the file; none begins after `until`."""
    plans = [((task, seed), plan(task, seed, out)) for task, seed in todo]
    for (task, seed), run, outcome in work(plans, launcher, until):
        if isinstance(outcome, RetainError):
            raise outcome
        note(task, seed, result(task, run.folder, outcome))


def note(task: Task, seed: int, result: Result) -> None:
    """One line more in the file of runs."""
    line = {"run": identity(task, seed), "result": result, "machine": machine_line()}
    with RUNS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{key(task)}seed {seed}: {result[0]:.1f}", flush=True)


def chosen(task: Task, only: list[str]) -> bool:
    """Whether one of the names is part of what a task is."""
    said = f"{task.algo} {task.env} {task.what} {task.steps // 1000}k"
    return not only or any(name in said for name in only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    add_flags(parser, jobs=2)
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="run folders")
    parser.add_argument("--only", nargs="*", default=[], help="parts of what rows are called")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after")
    parser.add_argument("--write", action="store_true", help="write results/learning.md")
    options = parser.parse_args()
    tasks = [task for task in TASKS if chosen(task, options.only)]
    until = time.monotonic() + 60 * options.minutes
    train(missing(tasks, options.seeds), chosen_launcher(options), options.out, until)
    table, done = RESULTS / "learning.md", known()
    old = table.read_text().splitlines() if table.exists() else []
    rows = {k: next((line for line in old if line.startswith(k)), "") for k in map(key, TASKS)}
    for task in tasks:
        names = [json.dumps(identity(task, seed)) for seed in range(1, options.seeds + 1)]
        if all(name in done for name in names):
            rows[key(task)] = row(task, [done[name] for name in names])
            print(rows[key(task)], flush=True)
    if options.write:
        write(table, [line for line in rows.values() if line])


def write(table: Path, rows: list[str]) -> None:
    """The whole table."""
    head = [
        f"# Learning\n\n{machine_line()}\n",
        "`python benchmarks/learning.py`: presets; 20 deterministic episodes of the final agent, "
        "or where it says *within*, the mean of ten training episodes in a row @ the last one's "
        "number.\n",
        "| algorithm | environment | memory | steps | return of each seed | median | goal | peer |"
        " training |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    table.write_text("\n".join(head + rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
