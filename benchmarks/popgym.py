"""Which memory learns what: PPO with each memory on tasks of POPGym, and what else must be held.

    python benchmarks/popgym.py --jobs 2 --minutes 60
    python benchmarks/popgym.py --algo sac --memories none lstm mingru
    python benchmarks/popgym.py --launcher ray --address auto
    python benchmarks/popgym.py --table

Every finished run is a line of results/popgym.jsonl, so the table grows from call to call: what is
there is not run again. Seed 1 of everything comes first. All runs have the same settings but for
the memory. A run's return is the mean of its training episodes over its last tenth. The table gives
interquartile means over seeds with 95 % intervals (one seed: the value alone), after how many steps
a memory came 90 % of the way from the task's random returns to the best memory's, and time.
`--algo dqn` and `sac` do the same for the tasks of OFF_POLICY, with the settings that the task
itself gets.

Morad et al. 2023 (arXiv:2303.01859) train for 15 million steps; here a run is a hundredth of that,
or with `--steps 1500000` a tenth. The table has a part for each number of steps in the file.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from launching import add_flags, chosen_launcher, work
from machine import machine_line
from retain.errors import RetainError
from retain.study.launcher import Launcher
from retain.study.outcome import RunPlan
from retain.train.plot import read_curve
from watch import watched

RESULTS = Path(__file__).parent / "results"
RUNS, TABLE = RESULTS / "popgym.jsonl", RESULTS / "popgym.md"
STEPS = 150_000
POINTS = 30
"""Points of a run's learning curve that are kept."""
SETTINGS = {
    "num_envs": 16, "num_steps": 128, "batch_size": 512, "learning_rate": 1e-3,
    "lr_schedule": "constant", "entropy_coef": 0.01, "previous_action": False,
}  # fmt: skip
MEMORIES = ("none", "lstm", "gru", "mingru", "lru", "attention", "delta")
TASKS = (
    *(
        f"popgym-{name}-v0"
        for name in (
            "RepeatPreviousEasy", "RepeatPreviousMedium", "RepeatFirstEasy", "AutoencodeEasy",
            "CountRecallEasy", "ConcentrationEasy", "HigherLowerEasy", "PositionOnlyCartPoleEasy",
            "NoisyPositionOnlyPendulumEasy", "LabyrinthEscapeEasy",
        )
    ),
    "MiniGrid-MemoryS7-v0",
    "TMaze100-v0",
    "TMaze500-v0",
)  # fmt: skip
OFF_POLICY = {
    "dqn": (50_000, ("popgym-RepeatPreviousEasy-v0",)),
    "sac": (20_000, ("PendulumNoVel-v1", "popgym-NoisyPositionOnlyPendulumEasy-v0")),
}
"""Steps and tasks of the off-policy algorithms."""


@dataclass(frozen=True)
class Run:
    """What one run came to."""

    task: str
    memory: str
    seed: int
    steps: int
    options: tuple[str, ...]
    curve: tuple[tuple[int, float], ...]
    """Steps, and the mean return of the last 100 episodes."""
    final: float
    """Mean return of the episodes of the last tenth."""
    seconds: float
    """By the clock."""
    cpu_seconds: float
    """Of the training thread."""
    algo: str = "ppo"

    @property
    def key(self) -> "Key":
        return self.algo, self.task, self.memory, self.seed, self.steps


Key = tuple[str, str, str, int, int]


def plan(what: Key, out: Path) -> RunPlan:
    """A run."""
    algo, task, memory, seed, steps = what
    name, *options = memory.split()
    settings = (SETTINGS if algo == "ppo" else {}) | {
        "memory": name, "memory_options": tuple(options), "seed": seed,
        "callbacks": ("watch:Watch",),
    }  # fmt: skip
    folder = out / algo / task / f"{memory} {steps}".replace(" ", "_") / f"seed{seed}"
    return RunPlan(f"memory_tasks:{task}", algo, settings, steps, folder, episodes=1, trial=True)


def measured(what: Key, folder: Path) -> Run:
    """What a finished run came to."""
    algo, task, memory, seed, steps = what
    curve: list[tuple[int, float]] = []
    for step, value in zip(*read_curve(folder), strict=True):
        if step >= steps / POINTS * (len(curve) + 1) and math.isfinite(value):
            curve.append((int(step), float(value)))
    found, (_, seconds) = watched(folder), read_curve(folder, "seconds")
    final = statistics.mean(found["late"]) if found["late"] else math.nan
    _, *options = memory.split()
    return Run(
        task, memory, seed, steps, tuple(options), tuple(curve), final, float(seconds[-1]),
        found["cpu_seconds"], algo,
    )  # fmt: skip


def read(path: Path) -> dict[Key, Run]:
    """The runs of a results file."""
    if not path.exists():
        return {}
    runs = []
    for line in path.read_text().splitlines():
        facts = json.loads(line)
        facts |= {"options": tuple(facts["options"]), "curve": tuple(map(tuple, facts["curve"]))}
        runs.append(Run(**facts))
    return {run.key: run for run in runs}


def missing(
    algo: str, tasks: Iterable[str], memories: Iterable[str], seeds: int, steps: int, path: Path
) -> Iterator[Key]:
    """Runs that are not in the file yet, seed 1 of everything first."""
    done = read(path)
    for seed in range(1, seeds + 1):
        for task in tasks:
            for memory in memories:
                if (key := (algo, task, memory, seed, steps)) not in done:
                    yield key


def steps_of(algo: str) -> int:
    """The usual steps of an algorithm's run."""
    return STEPS if algo == "ppo" else OFF_POLICY[algo][0]


def tasks_of(algo: str) -> tuple[str, ...]:
    """The tasks that an algorithm is trained on."""
    return TASKS if algo == "ppo" else OFF_POLICY[algo][1]


def train(todo: list[Key], launcher: Launcher, out: Path, minutes: float, path: Path) -> None:
    """Runs what is to do until the time is up; what has begun by then is finished."""
    end = time.monotonic() + 60 * minutes
    left = len(todo)
    for what, run_plan, outcome in work([(what, plan(what, out)) for what in todo], launcher, end):
        left -= 1
        if isinstance(outcome, RetainError):
            print(f"{what}: {outcome}", flush=True)
            continue
        run = measured(what, run_plan.folder)
        with path.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        print(f"{run.task} {run.memory} seed {run.seed}: {run.final:.3g} "
              f"in {run.seconds:.0f} s, {left} to do", flush=True)  # fmt: skip


def reached(run: Run, level: float) -> float:
    """Steps after which the curve first is at the level; infinite if it never is."""
    return next((step for step, value in run.curve if value >= level), math.inf)


def cell(runs: list[Run], level: float) -> str:
    """Interquartile mean, interval and steps to the level of one memory's seeds."""
    from retain.study.statistics import iqm, iqm_interval

    finals = [run.final for run in runs]
    shown = f"{float(iqm(finals)):.2f}"
    if len(runs) > 1:
        interval = iqm_interval(finals)
        shown += f" [{interval.low:.2f}, {interval.high:.2f}]"
    steps = statistics.median(reached(run, level) for run in runs)
    return shown + (f", {steps / 1000:.0f}k" if math.isfinite(steps) else "")


def table(runs: Iterable[Run], memories: Iterable[str], algo: str, steps: int) -> list[str]:
    """Markdown rows of an algorithm, a task each, the best memory in bold."""
    from retain.study.statistics import iqm

    grouped: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        if (run.algo, run.steps) == (algo, steps) and not math.isnan(run.final):
            grouped.setdefault(run.task, {}).setdefault(run.memory, []).append(run)
    columns = [m for m in memories if any(m in by for by in grouped.values())]
    lines = ["| task | seeds | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 2)]
    for task in (t for t in tasks_of(algo) if t in grouped):
        by = grouped[task]
        best = {m: float(iqm([run.final for run in rs])) for m, rs in by.items()}
        low = min(run.curve[0][1] for rs in by.values() for run in rs if run.curve)
        level = low + 0.9 * (max(best.values()) - low)
        cells = [
            f"**{cell(by[m], level)}**" if m in by and best[m] == max(best.values())
            else cell(by[m], level) if m in by else "-"
            for m in columns
        ]  # fmt: skip
        counts = sorted({len(by[m]) for m in columns if m in by})
        seeds = "-".join(str(n) for n in (counts if len(counts) == 1 else (counts[0], counts[-1])))
        lines.append(f"| {task.removeprefix('popgym-')} | {seeds} | " + " | ".join(cells) + " |")
    rates = [
        np.mean([run.steps / run.cpu_seconds for by in grouped.values() for run in by.get(m, [])])
        for m in columns
    ]
    return [*lines, "| steps per CPU second | | " + " | ".join(f"{r:,.0f}" for r in rates) + " |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_flags(parser, jobs=1)
    parser.add_argument("--out", type=Path, default=Path("runs/popgym"), help="run folders")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--algo", default="ppo", choices=["ppo", *OFF_POLICY])
    parser.add_argument("--steps", type=int, help="of a run; by default the algorithm's")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="by default all")
    parser.add_argument("--memories", nargs="+", default=MEMORIES, metavar="MEMORY",
                        help="names, with options in one argument: 'lstm chrono=500'")  # fmt: skip
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    options = parser.parse_args()
    if not options.table:
        steps = options.steps or steps_of(options.algo)
        tasks = options.tasks or tasks_of(options.algo)
        todo = list(missing(options.algo, tasks, options.memories, options.seeds, steps, RUNS))
        train(todo, chosen_launcher(options), options.out, options.minutes, RUNS)
    runs = list(read(RUNS).values())
    names = [*MEMORIES, *sorted({run.memory for run in runs} - set(MEMORIES))]
    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    lines = [
        f"# Memories on tasks that need one\n\n{machine_line()}\n",
        f"`python benchmarks/popgym.py`: PPO; {settings}; the rest as it is by default. Mean "
        "training return of the last tenth: interquartile mean over seeds and 95 % interval, then "
        "steps to 90 % of the way from the first returns to the best memory's (median; none if it "
        "never came there). The line above is the machine that wrote this table.",
    ]
    for steps in sorted({run.steps for run in runs if run.algo == "ppo"}):
        lines += [f"\n## {steps:,} steps a run\n", *table(runs, names, "ppo", steps)]
    for algo in (
        algo
        for algo in OFF_POLICY
        if any((run.algo, run.steps) == (algo, steps_of(algo)) for run in runs)
    ):
        lines += [
            f"\n## {algo.upper()}, {steps_of(algo):,} steps a run, with the task's own settings\n",
            *table(runs, names, algo, steps_of(algo)),
        ]
    print("\n".join(lines))
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
