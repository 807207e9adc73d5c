"""`retain playback DIR`"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from retain.cli.flags import parse
from retain.train.playback import play_back


@dataclass(frozen=True)
class PlaybackOptions:
    """The options of `retain playback`."""

    folder: tyro.conf.Positional[Path]
    """A run folder."""
    episode: int = -1
    """Number of the episode, in the order in which they ended, from 0; -1 is the last one, -2 the
    one before, ..."""
    trust: bool = False
    """Import the module that the run's configuration names (docs/security.md)."""
    video: Path | None = None
    """Film the episode into this .gif or .mp4."""


def command(arguments: list[str]) -> int:
    """Plays the episode and says whether the result is the same."""
    options = parse(
        PlaybackOptions,
        arguments,
        verb="playback",
        description="Replay an episode of a run's training from its seed and actions.",
    )
    result = play_back(options.folder, options.episode, video=options.video, trust=options.trust)
    record = result.record
    print(
        f"episode {result.number}: environment {record.env}, seed {record.seed}, "
        f"return {record.ret:g}, length {record.length}"
    )
    if options.video is not None:
        print(f"video: {options.video}")
    if not result.same:
        print(
            f"the replay gave return {result.ret:g}, length {result.length}: "
            "the environment is not deterministic given its seed"
        )
        return 1
    print("the replay gave the same result")
    return 0
