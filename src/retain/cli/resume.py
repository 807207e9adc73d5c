"""`retain resume DIR`"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from retain.cli.flags import parse
from retain.train.resume import resume
from retain.train.trainer import Interrupted


@dataclass(frozen=True)
class ResumeOptions:
    """What `retain resume` reads."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
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
        resume(options.folder, steps=options.steps, progress=True)
    except Interrupted as stop:
        print(stop)
        return 128 + stop.number
    print(f"done; evaluate with: retain eval {options.folder}")
    return 0
