"""`retain sweep ALGO`"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from retain.cli.flags import parse, set_values
from retain.cli.progress import runs_progress
from retain.cli.train import algorithm
from retain.study.launchers import LauncherOptions, make_launcher
from retain.study.space import Base, read_search
from retain.study.sweep import Pruner, Sweep
from retain.study.swept import Running, Swept
from retain.train.trainer import Interrupted


@dataclass(frozen=True)
class SweepOptions(LauncherOptions):
    """The options of `retain sweep`."""

    env: str = "CartPoleNoVel-v1"
    """A gymnasium id, or module:id."""
    memory: tuple[str, ...] = ("none",)
    """Memories to choose from, e.g. lstm mingru."""
    steps: int = 100_000
    """Environment steps per run."""
    trials: int = 40
    """Number of trials; the first ones have the default settings, one for each memory. With more
    of them, the same command goes on."""
    seeds: int = 3
    """Runs per trial; a trial counts by the interquartile mean of their final returns."""
    fresh_seeds: int = 5
    """Runs with the best and with the default settings at the end, on seeds that no trial has seen;
    0 leaves this comparison out."""
    search: tuple[str, ...] = ()
    """Ranges to search instead of those that the settings declare, or further settings:
    learning_rate=log:1e-5:1e-2 gamma=near_one:0.9:0.999 clip_range=uniform:0.1:0.4
    num_steps=one_of:64:128:256."""
    set: tuple[str, ...] = ()
    """Config fields for all runs, which are not searched, e.g. num_envs=4 gamma=0.99."""
    pruner: Pruner = "median"
    """Gives up hopeless trials by the learning curve of their first seed: median (below the median
    of the other trials), asha (a third goes on at each of a few steps) or none."""
    episodes: int = 20
    """Whole episodes that each final agent plays."""
    study: Path | None = None
    """Optuna's storage: a .db file (SQLite), or a .journal file, which several machines may share.
    study.db in --out by default."""
    out: Path = Path("runs/sweep")
    """Folder for the runs, best.toml and the report; the same command continues where it stopped,
    also after kill -9, and may run several times at once."""


def sweep_of(algo: str, options: SweepOptions) -> Sweep:
    """The sweep that the flags describe.

    Raises:
        UsageError: a --set or --search is not of its form, or names no setting.
    """
    settings = set_values(options.set)
    ranges = read_search(Base(algo, options.env, settings), options.memory, options.search)
    return Sweep(
        algo, options.env, options.memory, options.steps, options.trials, options.seeds,
        options.fresh_seeds, settings, ranges, options.pruner, options.episodes,
    )  # fmt: skip


def command(arguments: list[str]) -> int:
    """Runs the sweep, then prints the result."""
    algo, rest = algorithm("sweep", arguments)
    options = parse(
        SweepOptions,
        rest,
        verb=f"sweep {algo}",
        description="Search settings on several seeds, write the best as a preset, and compare it "
        "with the default settings on fresh seeds.",
    )
    sweep = sweep_of(algo, options)
    running = Running(sweep, options.out, options.study or options.out / "study.db")
    try:
        swept = run(running, options)
    except Interrupted as stop:
        print(f"stopped; the same command continues where it stopped ({options.out})")
        return 128 + stop.number
    show(swept, options.out)
    return 0


def run(running: Running, options: LauncherOptions) -> Swept:
    """The search and the comparison, each with its progress bar; a line for each trial."""
    from retain.study.sweep_report import trial_line

    sweep = running.sweep
    with runs_progress(f"{sweep.trials} trials") as progress:
        running.search(
            make_launcher(options),
            tick=progress,
            told=lambda trial: print(trial_line(trial), flush=True),
        )
    with runs_progress(f"{2 * sweep.fresh_seeds} fresh runs") as progress:
        return running.finish(make_launcher(options), tick=progress)


def show(swept: Swept, out: Path) -> None:
    """Prints the result."""
    from retain.study.summary import short_table, yardstick_line
    from retain.study.sweep_report import changes_table, result_lines, trials_table, use_line

    console = Console()
    console.print(Markdown("\n".join(trials_table(swept.trials))))
    if not swept.best.default:
        console.print(Markdown("\n".join(changes_table(swept))))
    if swept.compared is not None:
        study, found = swept.compared.study, swept.compared.found
        console.print(Markdown("\n".join([*short_table(found), "", yardstick_line(study, found)])))
    lines = ["", *result_lines(swept)]
    if not swept.best.default:
        lines.append(f"use them: {use_line(swept)}")
    lines.append(f"report: {out / 'report.md'}")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
