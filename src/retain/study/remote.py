"""The part of a Ray launcher that runs on the cluster's nodes: an actor that watches over a run.

The run itself is a process that the actor starts, as a local launcher would: what kills the run
does not kill its guardian, who says how it ended.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path

from retain._version import __version__

START = "from retain.study.remote import main; main()"
CHECKED = ("ray", "torch", "numpy", "gymnasium")
"""Packages whose versions decide a run's numbers, besides Python's and ours."""
SHARE_PATIENCE = 10.0
"""Seconds for which a file may stay unseen on another machine that shares its folder."""
LOOK = 0.2
"""Seconds between two looks at the run."""


@dataclass(frozen=True)
class Order:
    """A run for a node, readable without importing what the run needs.

    Args:
        plan: the pickled `RunPlan`.
        folder: the run folder.
        token: a file that the study's machine wrote beside the run folder, and its text; None if
            the machines share no folder.
        store: the URL of the copies, and the name of this run's; None if the machines share a
            folder.
        every: seconds between two copies.
        path: where the study's machine looks for modules; the run looks there last.
        versions: of the study's machine; another node refuses the run.
    """

    plan: bytes
    folder: str
    token: tuple[str, str] | None
    store: tuple[str, str] | None
    every: float
    path: tuple[str, ...]
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """The versions that must agree between machines."""
    found = {"Python": ".".join(map(str, sys.version_info[:2])), "retain": __version__}
    for name in CHECKED:
        with suppress(PackageNotFoundError):
            found[name] = version(name).partition("+")[0]  # +cpu, +cu128
    return found


def seen(path: Path, text: str) -> bool:
    """Whether a file that another machine wrote can be read here, waiting for it a while."""
    until = time.monotonic() + SHARE_PATIENCE
    while True:
        with suppress(OSError):
            os.listdir(path.parent)  # asks a network's file system again
            if path.read_text() == text:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.5)


@dataclass(frozen=True)
class Ending:
    """How a run ended on its node."""

    status: int | None = None
    """Exit status of the process; None if it was never started."""
    raised: bytes | None = None
    """What the run raised, pickled."""
    unshared: bool = False
    """Whether the node does not see the study's folder."""
    versions: dict[str, str] | None = None
    """The node's versions if they are not those of the study's machine."""


class Guardian:
    """Starts a run on this node and watches over it; a Ray actor."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._stamp: tuple[int, int] | None = None
        self.folder = Path(order.folder)
        if order.store is not None:
            self.folder = Path(tempfile.gettempdir()) / "retain-runs" / order.store[1]

    def ready(self) -> None:
        """Answers once a node has taken the run."""

    def run(self) -> Ending:
        """Executes the run to its end."""
        here, token = versions(), self.order.token
        if here != self.order.versions:
            return Ending(versions=here)
        if token is not None and not seen(Path(token[0]), token[1]):
            return Ending(unshared=True)
        if self.order.store is None:
            return self._run(lambda: None)
        return self._run_with_copies(*self.order.store)

    def _run_with_copies(self, url: str, name: str) -> Ending:
        from retain.study.mirror import Mirror
        from retain.study.outcome import OUTCOME, PATIENCE
        from retain.train.lock import held

        mirror = Mirror(url)
        if self.folder.is_dir():
            with held(self.folder, PATIENCE):  # a run whose guardian died may still write
                pass
        mirror.pull(name, self.folder)

        def copy() -> None:
            if self.folder.is_dir():
                mirror.push(self.folder, name)

        ending = self._run(copy)
        if (self.folder / OUTCOME).exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        return ending

    def _run(self, copy: Callable[[], None]) -> Ending:
        if self._stopped.is_set():
            return Ending()
        ours, theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(theirs), str(self.folder)],
            stdin=subprocess.PIPE,
            pass_fds=(theirs,),
            env=os.environ | _environment(),
        )
        os.close(theirs)
        given = self._process.stdin
        assert given is not None
        with suppress(BrokenPipeError):
            pickle.dump((self.order.path, self.order.plan), given)
            given.flush()  # stays open: its end tells the run that we are gone
        if self._stopped.is_set():
            self._process.terminate()
        copied = time.monotonic()
        while self._process.poll() is None:
            time.sleep(LOOK)
            if time.monotonic() - copied > self.order.every:
                copy()
                copied = time.monotonic()
        copy()
        with Connection(ours) as told:
            raised = None
            with suppress(EOFError, OSError):
                raised = told.recv_bytes() if told.poll() else None
        given.close()
        return Ending(self._process.returncode, raised)

    def stop(self) -> None:
        """Asks the run to write its checkpoint and stop."""
        self._stopped.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def metrics(self) -> bytes | None:
        """The run's metrics.csv if it has changed since the last call."""
        path = self.folder / "metrics.csv"
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = status.st_mtime_ns, status.st_size
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        return path.read_bytes()


def _environment() -> Mapping[str, str]:
    """A run that uses Ray itself, for its environments, finds the same one."""
    import ray

    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def main() -> None:
    """The entry point of a run's process."""
    told = Connection(int(sys.argv[1]))
    path, content = pickle.load(sys.stdin.buffer)
    sys.path += [one for one in path if one not in sys.path]

    from retain.study.body import execute

    plan = replace(pickle.loads(content), folder=Path(sys.argv[2]))

    def tell(raised: BaseException) -> None:
        told.send_bytes(pickle.dumps(raised))

    def abandoned() -> None:
        sys.stdin.buffer.read(1)  # nothing comes but the end

    execute(plan, tell, abandoned)
