"""`retain resume DIR`"""

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from retain.cli.flags import given, parse, without
from retain.train import checkpoint as store
from retain.train.changes import check_free
from retain.train.config import RunConfig, field_names, values_of
from retain.train.distributed import join_ranks
from retain.train.launch import launch
from retain.train.loading import load_settings
from retain.train.ranked import WAIT, leads, started
from retain.train.resume import resume
from retain.train.trainer import Interrupted, finished


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """The options of `retain resume`, besides the settings of the run's algorithm."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    steps: int | None = None
    """New total of steps, also for a finished run; schedules follow it."""
    checkpoint: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Checkpoint to continue from instead of the newest, by its name or its step; newer checkpoints
    are set aside."""
    trust: bool = False
    """Import the modules that the run's configuration names (docs/security.md)."""
    ranks: int = 1
    """Processes of this machine that learn together; another number than before is fine if it
    divides the run's shards."""
    rank_timeout: float = WAIT
    """With --ranks: seconds that a rank may take to answer another before all start again."""
    run: RunConfig = field(default_factory=RunConfig)


def defaults(arguments: Sequence[str]) -> ResumeOptions | None:
    """The options before flags: the saved settings of the run that the arguments name, if any.

    Raises:
        CheckpointError: the settings are broken, or name a module without --trust.
        UsageError: a flag sets something that cannot change during a run.
    """
    for folder in (Path(argument) for argument in arguments if not argument.startswith("-")):
        if not store.checkpoints(folder):
            continue
        newest = store.checkpoints(folder)[-1]
        run, config = load_settings(newest, trust="--trust" in arguments)
        known = field_names(type(run), type(config))
        names = [name for name in given(arguments) if name in known and name != "buffer_folder"]
        check_free(names, values_of(run, config), type(config))
        kind = make_dataclass(
            "ResumeOptions", [("algo", type(config))], bases=(ResumeOptions,), frozen=True,
            kw_only=True,
        )  # fmt: skip
        options: ResumeOptions = kind(folder=folder, run=run, algo=config)
        return options
    return None


def command(arguments: list[str]) -> int:
    """Continues a run to its end."""
    default = defaults(arguments)
    options: Any = parse(
        ResumeOptions if default is None else type(default),
        arguments,
        verb="resume",
        default=default,
        description="Continue a stopped run from its last checkpoint: bit-identically, or with "
        "new settings from there on.",
    )
    if options.ranks != 1 and not started():
        own = ["resume", *without(arguments, "--ranks", "--rank-timeout")]
        return launch(own, options.folder, ranks=options.ranks, timeout=options.rank_timeout)
    join_ranks(options.run.device)
    changes = values_of(options.run, *([options.algo] if default is not None else []))
    changes = {name: changes[name] for name in given(arguments) if name in changes}
    callbacks = changes.pop("callbacks", None)
    try:
        agent = resume(
            options.folder, steps=options.steps, progress=leads(), callbacks=callbacks,
            checkpoint=options.checkpoint, trust=options.trust,
            buffer_folder=changes.pop("buffer_folder", None), **changes,
        )  # fmt: skip
    except Interrupted as stop:
        if leads():
            print(stop)
        return 128 + stop.number
    if not leads():
        return 0
    if not finished(agent):
        print(f"continue with: retain resume {options.folder}")
        return 0
    print(f"done; evaluate with: retain eval {options.folder}")
    return 0
