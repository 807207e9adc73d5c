"""`retain train ALGO`"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from rich.console import Console
from rich.markdown import Markdown

from retain.cli.flags import given, parse, value_of, without
from retain.cli.progress import runs_progress
from retain.envs.make import spaces_of
from retain.errors import UsageError
from retain.settings import default_of
from retain.study.launchers import LauncherOptions, make_launcher
from retain.study.seeds import ALL, Seeds, seeds_table, train_seeds
from retain.train.agent import Agent, run_name
from retain.train.algorithms import AGENTS
from retain.train.checkpoint import checkpoints
from retain.train.config import RunConfig, values_of
from retain.train.defaults import table
from retain.train.distributed import join_ranks
from retain.train.launch import launch
from retain.train.presets import AUTO
from retain.train.ranked import WAIT, leads, restarts, started
from retain.train.registry import algorithm_class
from retain.train.resume import resume
from retain.train.start import Start
from retain.train.trainer import Interrupted, finished, new_run_folder
from retain.typed import read


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of `retain train` that all algorithms share."""

    env: str = "CartPole-v1"
    """A gymnasium id, or module:id; `retain envs` lists the well-known ones."""
    preset: str = AUTO
    """Settings to start from: auto (known to work, or derived from the task), cleanrl, sb3, none
    (the algorithm's defaults), another name, or the path of a TOML file."""
    steps: int = 100_000
    """Environment steps to learn from, summed over all environments."""
    out: Path | None = None
    """Run folder; a new one in runs/ by default."""
    seeds: int = 1
    """Train seeds 1 to n with the same settings, in parallel, and summarise them."""
    ranks: int = 1
    """Processes of this machine that learn together, each with its share of the environments; for
    several machines see docs/scaling.md."""
    rank_timeout: float = WAIT
    """With --ranks: seconds that a rank may take to answer another before all start again."""
    engine: LauncherOptions = field(default_factory=LauncherOptions)
    run: RunConfig = field(default_factory=RunConfig)


def options_kind(algo: str) -> type[TrainOptions]:
    """`TrainOptions` together with the algorithm's own config."""
    config = AGENTS[algo].config_kind
    extra = [("algo", config, field(default_factory=config))]
    return make_dataclass("TrainOptions", extra, bases=(TrainOptions,), frozen=True, kw_only=True)


def defaults(algo: str, arguments: Sequence[str]) -> TrainOptions:
    """The options before flags: the preset of the environment and memory that the flags name.
    Without a preset, the task and the flags decide them."""
    env = value_of("--env", arguments) or TrainOptions.env
    name = value_of("--preset", arguments) or AUTO
    kinds = RunConfig, AGENTS[algo].config_kind
    settings = {"memory": "none"} | readable(arguments, *kinds)
    start = Start(algo, kinds, AGENTS[algo].run_defaults, env, name, settings)
    run = start.run()
    spaces = spaces_of(env, run.env_options()) if start.derives else ()
    config = start.config(*spaces)
    return options_kind(algo)(env=env, preset=name, run=run, algo=config)  # type: ignore[call-arg]


def chosen_of(options: Any, arguments: Sequence[str]) -> dict[str, Any]:
    """The settings among the flags that were given."""
    values = values_of(options.run, options.algo)
    return {name: values[name] for name in given(arguments) if name in values}


def readable(arguments: Sequence[str], *kinds: type[Any]) -> dict[str, Any]:
    """The settings of some configurations for which flags give one value. A value that cannot be
    read is left to the parser, which reports it."""
    found: dict[str, Any] = {}
    for kind in kinds:
        for name, wanted in get_type_hints(kind).items():
            text = value_of("--" + name.replace("_", "-"), arguments)
            with suppress(ValueError):
                found |= {} if text is None else {name: read(text, wanted)}
    return found


def agent_of(algo: str, options: Any, arguments: Sequence[str]) -> Agent:
    """The agent that the flags describe; flags that were given are settings, the rest comes from
    presets."""
    return AGENTS[algo](options.env, preset=options.preset, **chosen_of(options, arguments))


def algorithm(verb: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The algorithm that a command line begins with, and the rest of it.

    Raises:
        UsageError: the algorithm is missing or unknown.
    """
    if not arguments or arguments[0].startswith("-"):
        if not {"-h", "--help"} & set(arguments):
            raise UsageError(f"retain {verb} needs an algorithm (one of: {', '.join(AGENTS)})")
        arguments = ["ppo", *arguments]
    return algorithm_class(arguments[0]).algo, arguments[1:]


def several(study: Seeds, out: Path, engine: LauncherOptions) -> int:
    """Trains several seeds, then prints the results."""
    try:
        with runs_progress(f"{study.seeds} runs") as tick:
            outcomes = train_seeds(study, out, launcher=make_launcher(engine), tick=tick)
    except Interrupted as stop:
        print(f"stopped; the same command with --out {out} continues where it stopped")
        return 128 + stop.number
    table = "\n".join(seeds_table(outcomes))
    (out / "seeds.md").write_text(table + "\n")
    Console().print(Markdown(table))
    print(f"learning curve: {out / 'learning_curve.png'}")
    return 0


def command(arguments: list[str]) -> int:
    """Trains with a progress display, and prints where the run is."""
    algo, rest = algorithm("train", arguments)
    default = defaults(algo, rest)
    options = parse(
        type(default),
        rest,
        verb=f"train {algo}",
        default=default,
        description="Train an agent. The defaults shown come from the preset for --env and "
        "--memory, or are derived from the task if there is none. "
        f"Algorithms: {', '.join(AGENTS)}.",
    )
    if options.ranks != 1 and not started():
        return several_ranks(algo, options, rest)
    ranks = join_ranks(options.run.device)
    again = started_again(options)
    if again is not None:
        return again
    agent = agent_of(algo, options, rest)
    say = print if leads() else silent
    if agent.derived:
        say(f"no preset knows {options.env}; settings that follow from the task:")
        say("\n".join(f"  {line}" for line in table(agent.derived)))
    name = new_run_folder(agent.name, options.run.seed, several=options.seeds > 1)
    folder = ranks.first(options.out or name)
    say(f"run folder: {folder}", flush=True)
    if options.seeds != 1:
        settings = chosen_of(options, rest)
        study = Seeds(
            options.env, algo, (ALL,), options.steps, options.seeds, settings, preset=options.preset
        )
        return several(study, folder, options.engine)
    for one in fields(LauncherOptions):
        if getattr(options.engine, one.name) != default_of(one):
            raise UsageError(f"{one.name} would do nothing: seeds is 1")
    try:
        agent.learn(options.steps, out=folder, progress=leads())
    except Interrupted as stop:
        say(stop)
        return 128 + stop.number
    if not finished(agent):
        say(f"continue with: retain resume {folder}")
        return 0
    say(f"done; evaluate with: retain eval {folder}")
    say(f"learning curve: {folder / 'learning_curve.png'}")
    return 0


def silent(*text: object, flush: bool = False) -> None:
    """Prints nothing: only one rank speaks."""


def several_ranks(algo: str, options: Any, arguments: Sequence[str]) -> int:
    """Runs this command as several ranks of this machine.

    Raises:
        UsageError: there is more than one seed.
    """
    if options.seeds != 1:
        raise UsageError(
            f"ranks is {options.ranks} and seeds is {options.seeds} (expected one of them to be 1)"
        )
    name = run_name(options.env, algo, options.algo.memory)
    out = options.out or new_run_folder(name, options.run.seed)
    own = ["train", algo, *without(arguments, "--ranks", "--rank-timeout", "--out")]
    own += ["--out", str(out)]
    return launch(own, out, ranks=options.ranks, timeout=options.rank_timeout)


def started_again(options: Any) -> int | None:
    """The exit status of the run that torchrun, having lost a rank, lets this process continue;
    None if this is its beginning.

    Raises:
        UsageError: nobody knows the run's folder.
    """
    if not restarts():
        return None
    if options.out is None:
        raise UsageError("the ranks started again, but out is not given: where is the run?")
    if not checkpoints(options.out):
        return None
    resume(options.out, progress=leads(), trust=True)
    return 0
