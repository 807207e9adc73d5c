"""Serves the page to this machine alone, and reads the runs again while they train."""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from retain.errors import RetainError, UsageError
from retain.study.report.filming import videos
from retain.study.report.finding import collect
from retain.study.report.page import Page, assemble
from retain.study.report.reading import RunRecord, read_run
from retain.train.checkpoint import FOLDER

LOOPBACK = "127.0.0.1"
EVERY = 1.0
"""Smallest number of seconds between two readings of the runs."""
WATCHED = (".csv", ".json", ".jsonl", ".md")
"""Endings of the files whose change changes the page."""


Stamp = tuple[tuple[str, int, int], ...]
"""Names, sizes and times of files."""


def stamp_of(folder: Path) -> Stamp:
    """The state of everything in a folder that the page is made of."""
    found = []
    for parent, below, files in os.walk(folder):
        below[:] = [name for name in below if name != FOLDER]
        for name in files:
            if name.endswith(WATCHED):
                path = os.path.join(parent, name)
                with suppress(OSError):  # gone since
                    facts = os.lstat(path)
                    found.append((path, facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(found))


class Watched:
    """The page of some folders, made again when a file in them has changed; only the runs that
    changed are read again.

    Args:
        film: see `videos`; episodes are played back once, at the beginning.
    Raises:
        UsageError: see `report`.
    """

    def __init__(self, paths: Sequence[Path], *, film: bool = False, trust: bool = False) -> None:
        self.paths, self.trust = [Path(os.path.abspath(path)) for path in paths], trust
        self.lock = threading.Lock()
        self.known: dict[Path, tuple[Stamp, RunRecord]] = {}
        self.stamp, self.version = self._stamp(), 1
        collection = collect(self.paths, read=self._read)
        self.films = videos(collection, film=film, trust=trust)
        self.page = assemble(collection, videos=self.films, trust=trust)
        self.looked = time.monotonic()

    def current(self) -> tuple[int, Page]:
        """The page's version and the page, no older than a second.

        Folders that cannot be read at the moment leave the page as it was.
        """
        with self.lock:
            if time.monotonic() - self.looked >= EVERY:
                stamp = self._stamp()
                if stamp != self.stamp:
                    with suppress(RetainError):
                        collection = collect(self.paths, read=self._read)
                        self.page = assemble(collection, videos=self.films, trust=self.trust)
                        self.stamp, self.version = stamp, self.version + 1
                self.looked = time.monotonic()
            return self.version, self.page

    def _stamp(self) -> tuple[Stamp, ...]:
        return tuple(map(stamp_of, self.paths))

    def _read(self, folder: Path) -> RunRecord:
        stamp = stamp_of(folder)
        if folder not in self.known or self.known[folder][0] != stamp:
            self.known[folder] = stamp, read_run(folder)
        return self.known[folder][1]


class Handler(BaseHTTPRequestHandler):
    """Answers two paths: the page, and what is new in it."""

    def __init__(self, watched: Watched, request: Any, client: Any, server: Any) -> None:
        self.watched = watched
        port = server.server_address[1]
        self.names = (f"{LOOPBACK}:{port}", f"localhost:{port}")
        super().__init__(request, client, server)

    def do_GET(self) -> None:
        """Sends the page, its news, or an error."""
        parts = urlsplit(self.path)
        # A page from elsewhere whose name was pointed at this machine must not read the runs.
        if self.headers.get("Host") not in self.names:
            self.send_error(HTTPStatus.FORBIDDEN)
        elif parts.path == "/":
            self._send("text/html; charset=utf-8", self.watched.current()[1].html(live=True))
        elif parts.path == "/update.json":
            version, page = self.watched.current()
            if parse_qs(parts.query).get("version") == [str(version)]:
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()
            else:
                news = {"version": version, "main": page.main, "data": page.data}
                self._send("application/json", json.dumps(news, allow_nan=False))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(HTTPStatus.OK)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing: the terminal belongs to the user."""


def server(watched: Watched, port: int) -> ThreadingHTTPServer:
    """A server on this machine's own address, not started yet.

    Args:
        port: 0 takes any free one.
    Raises:
        UsageError: the port is taken or out of range.
    """
    if not 0 <= port < 2**16:
        raise UsageError(f"port is {port} (expected 0 to {2**16 - 1}; 0 takes any free one)")
    make: Callable[..., Handler] = partial(Handler, watched)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), make)
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be used: {error.strerror} (expected a free port; 0 takes any)"
        ) from None
