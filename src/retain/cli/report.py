"""`retain report RUN...`"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from retain.cli.flags import given, parse
from retain.errors import UsageError
from retain.study.report import OUT, report
from retain.study.report.watching import Watched, server


@dataclass(frozen=True)
class ReportOptions:
    """The options of `retain report`."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders of runs: of a comparison, of several seeds, of a sweep, or any."""
    out: Path = Path(OUT)
    """The page to write, one .html file."""
    video: bool = False
    """Also play the last training episode of each group's first run back, and film it."""
    watch: bool = False
    """Serve the page to this machine instead of writing it, and refresh it while runs train."""
    port: int = 8642
    """With --watch: port of the server; 0 takes any free one."""
    trust: bool = False
    """Import the modules that the runs' configurations name (docs/security.md)."""


def command(arguments: list[str]) -> int:
    """Writes the page and prints where it is, or serves it until Ctrl-C."""
    options = parse(
        ReportOptions,
        arguments,
        verb="report",
        description="One page to look at: settings, learning curves, monitors, episodes, "
        "evaluations and how to do it again. It is one file and needs no network.",
    )
    flags = given(arguments)
    if options.watch and "out" in flags:
        raise UsageError("out would do nothing: with --watch no file is written")
    if not options.watch and "port" in flags:
        raise UsageError("port would do nothing without --watch")
    if not options.runs:
        raise UsageError("retain report needs a run folder (expected retain report runs/...)")
    if not options.watch:
        path = report(*options.runs, out=options.out, video=options.video, trust=options.trust)
        print(f"report: {path}")
        return 0
    watched = Watched(options.runs, film=options.video, trust=options.trust)
    with server(watched, options.port) as serving:
        host, port = serving.server_address[:2]
        print(f"report: http://{host!s}:{port}/ (Ctrl-C ends it)", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print("stopped")
    return 0
