"""One self-contained page about a run, a comparison, several seeds, a sweep, or all of a folder."""

import os
from pathlib import Path

from retain.errors import UsageError
from retain.study.report.filming import videos
from retain.study.report.finding import collect
from retain.study.report.page import assemble
from retain.train.files import make_folder, shorten
from retain.train.misuse import explained

OUT = "report.html"


@explained('retain.report("runs/compare", out="report.html")')
def report(
    *runs: str | os.PathLike[str],
    out: str | os.PathLike[str] = OUT,
    video: bool = False,
    trust: bool = False,
) -> Path:
    """Writes a page about runs: settings, learning curves, monitors, episodes and evaluations.

    The page is one file that needs no network. What is missing from the runs is missing from it.

    Args:
        runs: run folders, or folders of runs at any depth: of a comparison, a sweep, or others.
        out: the HTML file to write.
        video: also play the last training episode of each group's first run back, and film it;
            without it, the page shows the .mp4 and .gif files that it finds in run folders.
        trust: import the modules that the runs' configurations name (docs/security.md).
    Raises:
        UsageError: there is no run, the file cannot be written, or the extra is not installed.
    """
    path = page_file(out)
    collection = collect([Path(run) for run in runs])
    page = assemble(collection, videos=videos(collection, film=video, trust=trust), trust=trust)
    path.write_text(page.html(), encoding="utf-8")
    return path


def page_file(out: str | os.PathLike[str]) -> Path:
    """The file to write.

    Raises:
        UsageError: the name is no page's, or its folder cannot be made.
    """
    path = Path(out)
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"out is {shorten(path)} (expected a name that ends in .html)")
    if path.is_dir():
        raise UsageError(f"out is {shorten(path)}, a folder (expected the name of a file)")
    make_folder(path.parent)
    return path


__all__ = ["report"]
