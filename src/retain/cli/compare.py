"""`retain compare`"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from retain.cli.flags import parse, read_value, set_values
from retain.cli.progress import runs_progress
from retain.errors import UsageError
from retain.study.compare import Study, compare, variants_of
from retain.study.launchers import LauncherOptions, make_launcher
from retain.study.summary import (
    advice_lines,
    memory_lines,
    short_table,
    tuned_lines,
    write_report,
    yardstick_line,
)
from retain.study.tune import TRIALS, Tuned, tune
from retain.study.verdict import judge
from retain.train.trainer import Interrupted


@dataclass(frozen=True)
class CompareOptions(LauncherOptions):
    """The options of `retain compare`."""

    env: str = "CartPoleNoVel-v1"
    """A gymnasium id, or module:id."""
    algo: str = "ppo"
    """Algorithm that every variant uses."""
    memory: tuple[str, ...] = ()
    """Memories to compare, the baseline first, e.g. none lstm window."""
    vary: tuple[str, ...] = ()
    """Instead of --memory: a config field and its values, e.g. learning_rate 1e-3 3e-4."""
    set: tuple[str, ...] = ()
    """Config fields for all variants, e.g. num_envs=4 normalise_obs=true."""
    seeds: int = 5
    """Runs per variant."""
    steps: int = 100_000
    """Environment steps per run."""
    episodes: int = 20
    """Whole episodes that each final agent plays."""
    tune: bool = False
    """First run the same small search of settings for every variant, then compare the tuned
    ones."""
    trials: int = TRIALS
    """With --tune: trials per variant, each of --steps steps."""
    out: Path = Path("runs/compare")
    """Folder for the runs and the report; the same command continues where it stopped."""


def study_of(options: CompareOptions) -> Study:
    """The study that the flags describe.

    Raises:
        UsageError: both or neither of --memory and --vary are given, or a --set lacks its "=".
    """
    if bool(options.memory) == bool(options.vary):
        raise UsageError("give either --memory none lstm ... or --vary FIELD VALUE VALUE ...")
    if options.memory:
        variants = variants_of("memory", options.memory)
    else:
        name, *texts = options.vary
        variants = variants_of(name.replace("-", "_"), [read_value(text) for text in texts])
    return Study(
        options.env, options.algo, variants, options.steps, options.seeds, set_values(options.set),
        options.episodes, options.trials if options.tune else 0,
    )  # fmt: skip


def command(arguments: list[str]) -> int:
    """Trains all variants, then prints the result."""
    options = parse(
        CompareOptions,
        arguments,
        verb="compare",
        description="Train variants of a setting on several seeds and say whether they differ.",
    )
    study, tuned = study_of(options), list[Tuned]()
    try:
        if study.trials:
            with runs_progress(f"{len(study.variants) * study.trials} trials") as tick:
                study, tuned = tune(study, options.out, launcher=make_launcher(options), tick=tick)
        with runs_progress(f"{len(study.variants) * study.seeds} runs") as tick:
            found = compare(study, options.out, launcher=make_launcher(options), tick=tick)
    except Interrupted as stop:
        print(f"stopped; the same command continues where it stopped ({options.out})")
        return 128 + stop.number
    path, verdict = write_report(study, found, options.out, tuned), judge(study, found)
    out = Console()
    for lines in (
        tuned_lines(study, tuned),
        [*short_table(found), "", yardstick_line(study, found), "", *memory_lines(study, found)],
    ):
        out.print(Markdown("\n".join(lines)))
    out.print(f"\n{verdict}", highlight=False)
    out.print("\n".join(advice_lines(verdict)), highlight=False)
    out.print(f"report: {path}", highlight=False)
    return 0
