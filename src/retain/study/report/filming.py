"""Films of episodes for the page: those in the run folders, and on demand a played-back one."""

import stat
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from retain.errors import RetainError, notice
from retain.study.report.finding import Collection, Labelled
from retain.study.report.page import Video
from retain.train.files import read_bytes
from retain.train.playback import play_back

KINDS = {".mp4": "video/mp4", ".gif": "image/gif"}
MOST_BYTES = 16 * 2**20
"""Size of the largest film that a page embeds."""
MOST_FILMS = 6


def videos(collection: Collection, *, film: bool = False, trust: bool = False) -> list[Video]:
    """The films of a collection, at most a few.

    Args:
        film: play the last episode of each group's first run back; a run that cannot be played
            back or drawn is told of, and left out.
        trust: import the modules that the runs' configurations name.
    """
    found = [video for one in collection.runs for video in _lying(one)]
    if film:
        for number in range(min(len(collection.groups), MOST_FILMS)):
            one = collection.members(number)[0]
            try:
                found.insert(number, _filmed(one, trust=trust))
            except RetainError as error:
                notice(f"no film of {one.name}: {error}")
    return found[:MOST_FILMS]


def _lying(one: Labelled) -> Iterator[Video]:
    """The films in a run folder that are not too large."""
    for path in sorted(one.run.folder.iterdir()):
        if path.suffix in KINDS and _fits(path):
            yield Video(f"{one.name}: {path.name}", KINDS[path.suffix], read_bytes(path))


def _fits(path: Path) -> bool:
    facts = path.lstat()
    return stat.S_ISREG(facts.st_mode) and 0 < facts.st_size <= MOST_BYTES


def _filmed(one: Labelled, *, trust: bool) -> Video:
    """The last episode of a run, played back; an .mp4 if it can be written, else a .gif."""
    suffix = ".mp4" if find_spec("imageio_ffmpeg") is not None else ".gif"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"episode{suffix}"
        played = play_back(one.run.folder, video=path, trust=trust)
        name = (
            f"{one.name}: training episode {played.number}, return {played.ret:g} in "
            f"{played.length} steps"
        )
        return Video(name, KINDS[suffix], read_bytes(path))
