"""Local processes as the engine of a study: one process for each run, a few at a time."""

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Self, TypeAlias

from retain.errors import RunFailure
from retain.study.body import execute, how_it_ended
from retain.study.launcher import RETRIES, Settled, check_jobs
from retain.study.outcome import RunPlan, finished
from retain.train.trainer import Interrupted

Context: TypeAlias = ForkServerContext | SpawnContext

PRELOAD = [
    "retain.study.processes", "retain.train.algorithms", "torch._dynamo", "matplotlib.pyplot",
]  # fmt: skip
"""What every run needs; importing it once saves each run some three seconds."""
GRACE = 30.0
"""Seconds that stopped runs have to write their checkpoints."""


class Processes:
    """Runs plans in processes of this machine.

    A process that dies (killed, out of memory) is started again, and its run resumes from its last
    checkpoint. If this process dies, however suddenly, the runs notice, write their checkpoints and
    stop, so that the same study can go on at once.

    Args:
        jobs: number of runs at the same time; None means one per core.
    Raises:
        UsageError: `jobs` is below 1.
    """

    def __init__(self, jobs: int | None = None) -> None:
        check_jobs(jobs)
        self.slots = jobs or os.cpu_count() or 1
        self._context = context()
        self._waiting: deque[LocalRun] = deque()
        self._live: list[LocalRun] = []

    def submit(self, plan: RunPlan) -> "LocalRun":
        """Hands over a run; it starts when one of the `slots` is free."""
        handle = LocalRun(plan, self._context)
        self._waiting.append(handle)
        self._fill()
        return handle

    def wait(self, seconds: float) -> None:
        """Returns when a run is done, or after this many seconds."""
        connection.wait([run.sentinel for run in self._live], seconds)
        for run in self._live:
            run.look()
        self._live = [run for run in self._live if not run.done]
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._live) < self.slots:
            run = self._waiting.popleft()
            if not run.done:
                run.start()
                self._live.append(run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._waiting.clear()
        for run in self._live:
            run.stop()
        for run in self._live:
            run.end(GRACE)
        self._live.clear()


class LocalRun(Settled):
    """A run in a process of this machine."""

    def __init__(self, plan: RunPlan, context: Context) -> None:
        super().__init__(plan)
        self._context = context
        self._process: BaseProcess | None = None
        self._starts = 0

    @property
    def sentinel(self) -> int:
        """A file descriptor that is ready when the process has ended."""
        assert self._process is not None
        return self._process.sentinel

    def start(self) -> None:
        """Starts the process, or starts it again."""
        self._starts += 1
        self._told, told = self._context.Pipe(duplex=False)
        self._process = self._context.Process(target=_work, args=(self.plan, told))
        self._process.start()
        told.close()

    def look(self) -> None:
        """Takes the result of a process that has ended; starts one that died again."""
        assert self._process is not None
        if self._process.is_alive():
            return
        raised: BaseException | None = None
        with contextlib.suppress(EOFError, OSError):
            raised = self._told.recv() if self._told.poll() else None
        self._told.close()
        if self.settle(finished(self.plan), raised):
            return
        if self._starts > RETRIES:
            self._failure = RunFailure(
                f"{self.plan.folder}: the run's process died {self._starts} times, most recently "
                f"{how_it_ended(self._process.exitcode)}; the same command continues it"
            )
        else:
            self.start()

    def stop(self) -> None:
        """Asks the run to write its checkpoint and stop; one that has not begun never does."""
        self._stopped = True
        if self._process is None:
            self._failure = Interrupted(self.plan.folder, signal.SIGTERM)
        elif self._process.is_alive():
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Waits for a stopped process, and kills it after this many seconds."""
        assert self._process is not None
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def context() -> Context:
    """Processes that begin with the library loaded, where the system can fork such ones."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    from multiprocessing.forkserver import ensure_running

    forked = get_context("forkserver")
    forked.set_forkserver_preload(PRELOAD)
    with _ignored("SIGTERM", "SIGHUP"):  # inherited: a signal to all of us is for the study alone
        ensure_running()
    return forked


@contextlib.contextmanager
def _ignored(*names: str) -> Iterator[None]:
    """Ignores signals inside the block, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.Signals[n] for n in names)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(plan: RunPlan, told: Connection) -> None:
    """The body of a process: the outcome goes to the run folder, what the run raised to `told`."""
    execute(plan, told.send, _parent_is_gone)


def _parent_is_gone() -> None:
    """Returns when the study's process has ended."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
