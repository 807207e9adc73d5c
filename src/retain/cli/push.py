"""`retain push DIR NAME`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from retain.cli.flags import parse
from retain.share import push


@dataclass(frozen=True)
class PushOptions:
    """The options of `retain push`."""

    folder: tyro.conf.Positional[Path]
    """A run folder, a checkpoint, or a file that agent.save wrote."""
    name: tyro.conf.Positional[str]
    """The name on the hub, as user/name; a repository is made where there is none."""
    which: Literal["last", "best"] = "last"
    """Checkpoint of the run to push."""
    episodes: int = 20
    """Whole episodes to evaluate for the card; 0 leaves the evaluation out."""
    video: Path | None = None
    """A .gif or .mp4 for the card; None takes video.gif or video.mp4 in the run folder."""
    private: bool = False
    """Make a new repository private."""
    trust: bool = False
    """Import the modules that the saved configuration names (docs/security.md)."""


def command(arguments: list[str]) -> int:
    """Pushes the agent and prints its address."""
    options = parse(
        PushOptions,
        arguments,
        verb="push",
        description="Put a trained agent on the Hugging Face hub: its checkpoint without the "
        "replay, and a card. Log in first: hf auth login, or HF_TOKEN.",
    )
    address = push(
        options.folder, options.name, which=options.which, episodes=options.episodes,
        video=options.video, private=options.private, trust=options.trust,
    )  # fmt: skip
    print(address)
    return 0
