"""`retain pull NAME`"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from retain.cli.flags import parse
from retain.share import pull


@dataclass(frozen=True)
class PullOptions:
    """The options of `retain pull`."""

    name: tyro.conf.Positional[str]
    """The name on the hub, as user/name."""
    out: Path | None = None
    """The new folder; None means runs/NAME."""
    revision: str | None = None
    """A branch, tag or commit; None means the newest."""


def command(arguments: list[str]) -> int:
    """Fetches the agent and says how to go on."""
    options = parse(
        PullOptions,
        arguments,
        verb="pull",
        description="Fetch a trained agent from the Hugging Face hub. None of its code is run.",
    )
    folder = pull(options.name, options.out, revision=options.revision)
    print(f"{folder}; evaluate with: retain eval {folder}")
    return 0
