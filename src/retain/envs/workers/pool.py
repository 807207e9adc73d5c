"""Environments in worker processes; a worker that dies loses nothing.

Observations, actions, rewards and ends live in one block of memory that all processes map; a step
costs one byte each way over a pipe and no pickling. The block is an unlinked file and every pipe
ends with its processes, so nothing remains when the trainer is killed.
"""

import contextlib
import os
import pickle
import select
import subprocess
import sys
import tempfile
import time
import weakref
from mmap import mmap
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from retain.envs.options import EnvOptions
from retain.envs.workers.base import START_TIMEOUT, BasePool, Spaces
from retain.envs.workers.block import arrays_in, block_layout, layout_bytes
from retain.envs.workers.group import Group
from retain.envs.workers.handle import ProcessHandle
from retain.envs.workers.protocol import DONE, NEWS, PLAY_BACK, Part, Watch
from retain.envs.workers.served import start_of
from retain.errors import UsageError

AVAILABLE = os.name == "posix" and hasattr(select, "poll")
"""Whether processes can pass open files to each other here and wait for them; false on Windows."""
START = "from retain.envs.workers.process import main; main()"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool(BasePool[ProcessHandle]):
    """W worker processes with the environments of all groups.

    Args:
        env: an id or a callable, as `make` takes it.
        num_envs: number of environments, summed over all groups.
    Raises:
        UsageError: an environment cannot be made; the line comes from the worker.
    """

    def __init__(self, env: Any, num_envs: int, options: EnvOptions) -> None:
        super().__init__(num_envs, options)
        self._start = start_of(env, options)
        folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (unlinked; mapped below)
        self.handles = [self._spawn(number, rows) for number, rows in enumerate(self.rows)]
        self.close = weakref.finalize(self, _close, self.handles)
        try:
            self._agree([self._hello(handle) for handle in self.handles])
        except UsageError:
            self.close()
            raise
        groups = options.env_groups
        self._layout = block_layout(
            self.observation_space,
            self.action_space,
            workers=options.workers,
            groups=groups,
            each=self.each,
        )
        self._file.truncate(layout_bytes(self._layout))
        self.arrays = arrays_in(self._layout, memoryview(mmap(self._file.fileno(), 0)))
        self.groups = [Group(self, number, self.each) for number in range(groups)]
        looks = Watch.FEW if options.workers >= usable_cores() else Watch.LOOKS
        for handle in self.handles:
            number = handle.number
            handle.watch = Watch(self.arrays["done"].data[number : number + 1], looks)
            handle.messages.send_bytes(pickle.dumps(self._layout))

    def _spawn(self, number: int, rows: list[slice]) -> ProcessHandle:
        ours, theirs = Pipe()
        command_out, command_in = os.pipe()
        reply_out, reply_in = os.pipe()
        given = (command_out, reply_in, theirs.fileno(), self._file.fileno())
        process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, given)],
            pass_fds=given,
            stdin=subprocess.DEVNULL,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for end in (command_out, reply_in):
            os.close(end)
        theirs.close()
        handle = ProcessHandle(number, rows, process, command_in, reply_out, ours)
        ours.send_bytes(pickle.dumps(self._start | {"number": number, "rows": rows}))
        return handle

    def _hello(self, handle: ProcessHandle) -> Spaces:
        """The spaces that a new worker has found."""
        try:
            if not handle.messages.poll(START_TIMEOUT):
                raise UsageError(f"a worker took more than {START_TIMEOUT:.0f} s to start")
            content = handle.messages.recv_bytes()
        except (EOFError, OSError):
            raise UsageError("a worker ended while it made its environments") from None
        return self._understand(handle, content)

    def ask(self, handle: ProcessHandle, code: bytes) -> None:
        """Sends a worker a command."""
        handle.pending.append(code)
        handle.asked += 1
        self.arrays["asked"][handle.number] = handle.asked
        with contextlib.suppress(BrokenPipeError):  # noticed when the answer is waited for
            os.write(handle.command, code)

    def _read(self, handle: ProcessHandle, limit: float) -> bytes | None:
        """A worker's next answer; empty if the worker is dead, None if it takes too long."""
        if not handle.watch.reached(handle.asked - len(handle.pending) + 1):
            ready = select.poll()
            ready.register(handle.reply, select.POLLIN)
            if not ready.poll(limit * 1000):
                return None
        answer = os.read(handle.reply, 1)
        return self._news(handle, limit) if answer == NEWS else answer

    def _news(self, handle: ProcessHandle, limit: float) -> bytes | None:
        """Takes a worker's news of its environments; answers like `_read`."""
        try:
            if not handle.messages.poll(limit):
                return None
            self._take_news(handle, pickle.loads(handle.messages.recv_bytes()))
        except (EOFError, OSError):
            return b""
        return DONE

    def _ended(self, handle: ProcessHandle) -> str:
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = handle.process.wait(1.0)
        return f"ended (status {status})"

    def _renew(self, handle: ProcessHandle) -> None:
        handle.process.kill()
        handle.close()
        new = self._spawn(handle.number, handle.rows)
        handle.process, handle.command, handle.reply = new.process, new.command, new.reply
        handle.messages = new.messages
        self._forget(handle)
        self.arrays["asked"][handle.number] = self.arrays["done"][handle.number] = 0
        self._hello(handle)
        handle.messages.send_bytes(pickle.dumps(self._layout))

    def ask_play_back(self, handle: ProcessHandle, parts: list[Part]) -> None:
        """Asks a worker to play back episodes of each group."""
        handle.messages.send_bytes(pickle.dumps(parts))
        self.ask(handle, PLAY_BACK)


def _close(handles: list[ProcessHandle]) -> None:
    until = time.monotonic() + 1.0
    for handle in handles:
        with contextlib.suppress(OSError):
            os.close(handle.command)
    for handle in handles:
        handle.command = -1
        handle.close(max(0.0, until - time.monotonic()))
