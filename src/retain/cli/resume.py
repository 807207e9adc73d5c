"""`retain resume DIR`"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from retain.cli.flags import parse
from retain.train.resume import resume
from retain.train.trainer import Interrupted, finished


@dataclass(frozen=True)
class ResumeOptions:
    """What `retain resume` reads."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    callbacks: tuple[str, ...] | None = None
    """In place of the run's own (see retain train); module:Name must be said again."""
    steps: int | None = None
    """Go on until so many steps instead, also where the run is finished; schedules go by it."""


def command(arguments: list[str]) -> int:
    """Continues a run to its end."""
    options = parse(
        ResumeOptions,
        arguments,
        verb="resume",
        description="Continue a stopped run bit-identically, from its last checkpoint.",
    )
    try:
        agent = resume(
            options.folder, steps=options.steps, progress=True, callbacks=options.callbacks
        )
    except Interrupted as stop:
        print(stop)
        return 128 + stop.number
    if not finished(agent):
        print(f"go on with: retain resume {options.folder}")
        return 0
    print(f"done; evaluate with: retain eval {options.folder}")
    return 0
