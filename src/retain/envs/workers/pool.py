"""Environments in worker processes; a worker that dies loses nothing.

Observations, actions, rewards and ends live in one block of memory that all processes map; a step
costs one byte each way over a pipe and no pickling. The block is an unlinked file and every pipe
ends with its processes, so nothing remains when the trainer is killed.

A worker that dies or hangs is replaced: its environments are made anew and their episodes are
played back from seed and actions to where they were, so the run continues bit-identically.
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

import cloudpickle
import gymnasium as gym

from retain.envs.contract import Fault
from retain.envs.options import EnvOptions
from retain.envs.workers.block import arrays_in, block_layout, layout_bytes
from retain.envs.workers.group import Group
from retain.envs.workers.handle import Handle
from retain.envs.workers.protocol import DONE, NEWS, PLAY_BACK, News, Part, Watch
from retain.errors import EnvironmentFailure, UsageError, notice

AVAILABLE = os.name == "posix" and hasattr(select, "poll")
"""Whether processes can pass open files to each other here and wait for them; false on Windows."""
START_TIMEOUT = 120.0
"""Seconds that a worker may take to import its modules and make its environments."""
PATIENCE = 3
"""Number of times that a worker may be replaced before it answers the same command."""
START = "from retain.envs.workers.process import main; main()"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """W worker processes with the environments of all groups.

    Args:
        env: an id or a callable, as `make` takes it.
        num_envs: number of environments, summed over all groups.
    Raises:
        UsageError: an environment cannot be made; the line comes from the worker.
    """

    def __init__(self, env: Any, num_envs: int, options: EnvOptions) -> None:
        self.options, groups, workers = options, options.env_groups, options.workers
        each = num_envs // groups
        cuts = [each * k // workers for k in range(workers + 1)]
        spec = gym.registry.get(env.split(":")[-1]) if isinstance(env, str) else None
        self._start = {
            "path": sys.path,
            "env": cloudpickle.dumps(env),
            "options": options,
            "specs": cloudpickle.dumps({} if spec is None else {spec.id: spec}),
        }
        folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (unlinked; mapped below)
        rows = [[slice(cuts[w], cuts[w + 1])] * groups for w in range(workers)]
        self.handles = [self._spawn(w, rows[w]) for w in range(workers)]
        self.close = weakref.finalize(self, _close, self.handles)
        try:
            hello = [self._hello(handle) for handle in self.handles]
            self.observation_space, self.action_space = hello[0]
            if any(spaces != hello[0] for spaces in hello):
                raise UsageError("environments differ in their spaces from one worker to another")
        except UsageError:
            self.close()
            raise
        self._layout = block_layout(
            self.observation_space, self.action_space, workers=workers, groups=groups, each=each
        )
        self._file.truncate(layout_bytes(self._layout))
        self.arrays = arrays_in(self._layout, memoryview(mmap(self._file.fileno(), 0)))
        self.groups = [Group(self, number, each) for number in range(groups)]
        looks = Watch.FEW if options.workers >= usable_cores() else Watch.LOOKS
        for handle in self.handles:
            number = handle.number
            handle.watch = Watch(self.arrays["done"].data[number : number + 1], looks)
            handle.messages.send_bytes(pickle.dumps(self._layout))

    def _spawn(self, number: int, rows: list[slice]) -> Handle:
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
        handle = Handle(number, rows, process, command_in, reply_out, ours)
        ours.send_bytes(pickle.dumps(self._start | {"number": number, "rows": rows}))
        return handle

    def _hello(self, handle: Handle) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """The spaces that a new worker has found."""
        try:
            if not handle.messages.poll(START_TIMEOUT):
                raise UsageError(f"a worker took more than {START_TIMEOUT:.0f} s to start")
            said = pickle.loads(handle.messages.recv_bytes())
        except (EOFError, OSError):
            raise UsageError("a worker ended while it made its environments") from None
        if "usage" in said:
            raise UsageError(said["usage"])
        if "error" in said:
            raise UsageError(f"an environment could not be made in a worker:\n{said['error']}")
        if handle.number == 0:  # the others say the same
            for text in dict.fromkeys(said["notices"]):
                notice(text)
        spaces: tuple[gym.Space[Any], gym.Space[Any]] = said["spaces"]
        return spaces

    def ask(self, handle: Handle, code: bytes) -> None:
        """Sends a worker a command."""
        handle.pending.append(code)
        handle.asked += 1
        self.arrays["asked"][handle.number] = handle.asked
        with contextlib.suppress(BrokenPipeError):  # noticed when the answer is waited for
            os.write(handle.command, code)

    def wait(self, handle: Handle, code: bytes, seconds: float | None = None) -> None:
        """Waits until a worker has answered a command and all commands before it.

        Raises:
            EnvironmentFailure: the worker was replaced again and again.
        """
        limit = self.options.worker_timeout if seconds is None else seconds
        while code in handle.pending:
            answer = self._read(handle, limit)
            if answer is None or answer == b"":
                self.replace(handle, "worker hung" if answer is None else "worker died")
                continue
            handle.replaced = 0
            handle.pending.popleft()

    def _read(self, handle: Handle, limit: float) -> bytes | None:
        """A worker's next answer; empty if the worker is dead, None if it takes too long."""
        if not handle.watch.reached(handle.asked - len(handle.pending) + 1):
            ready = select.poll()
            ready.register(handle.reply, select.POLLIN)
            if not ready.poll(limit * 1000):
                return None
        answer = os.read(handle.reply, 1)
        return self._take_news(handle, limit) if answer == NEWS else answer

    def _take_news(self, handle: Handle, limit: float) -> bytes | None:
        """Passes a worker's news of its environments to their groups; answers like `_read`."""
        try:
            if not handle.messages.poll(limit):
                return None
            news: News = pickle.loads(handle.messages.recv_bytes())
        except (EOFError, OSError):
            return b""
        for number, fault in news[0]:
            index = handle.rows[number].start + fault.index
            self.groups[number].faults.append(Fault(fault.kind, index, fault.text))
        for number, index, info in news[1]:
            self.groups[number].infos[handle.rows[number].start + index] = info
        return DONE

    def replace(self, handle: Handle, kind: Any) -> None:
        """Starts a new process for a worker's environments and brings them to where they were."""
        pending = [code for code in handle.pending if code != PLAY_BACK]
        answer: bytes | None = b"" if kind == "worker died" else None
        while answer != DONE:
            hung = answer is None
            status = None
            if not hung:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = handle.process.wait(1.0)
            text = f"worker {handle.number} " + (
                "took too long" if hung else f"ended (status {status})"
            )
            handle.replaced += 1
            if handle.replaced > PATIENCE:
                raise EnvironmentFailure(f"{text}, {PATIENCE} times in a row at the same step")
            fault = Fault(kind, -1, f"{text}; its episodes were played back")
            self.groups[0].faults.append(fault)
            self._renew(handle)
            answer = self._catch_up(handle, pending)
        for code in pending:
            self.ask(handle, code)

    def _renew(self, handle: Handle) -> None:
        """Starts a new process, with environments that have never been reset."""
        handle.process.kill()
        handle.close()
        new = self._spawn(handle.number, handle.rows)
        handle.process, handle.command, handle.reply = new.process, new.command, new.reply
        handle.messages, handle.asked = new.messages, 0
        handle.pending.clear()
        self.arrays["asked"][handle.number] = self.arrays["done"][handle.number] = 0
        for group, rows in zip(self.groups, handle.rows, strict=True):
            group.arrays["begun"][rows] = -1
        self._hello(handle)
        handle.messages.send_bytes(pickle.dumps(self._layout))

    def _catch_up(self, handle: Handle, pending: list[bytes]) -> bytes | None:
        """Plays a new worker's episodes back up to its predecessor's last answers; returns its
        answer."""
        parts = [
            group.episodes_of(rows, pending)
            for group, rows in zip(self.groups, handle.rows, strict=True)
        ]
        longest = max((len(actions) for _, part in parts for _, actions in part), default=0)
        self.ask_play_back(handle, parts)
        answer = self.played_back(handle, longest)
        if answer == DONE:
            handle.pending.clear()
            for group, rows, (spare, _) in zip(self.groups, handle.rows, parts, strict=True):
                group.compare(spare, rows, group.reset_code in pending)
        return answer

    def ask_play_back(self, handle: Handle, parts: list[Part]) -> None:
        """Asks a worker to play back episodes of each group."""
        handle.messages.send_bytes(pickle.dumps(parts))
        self.ask(handle, PLAY_BACK)

    def played_back(self, handle: Handle, longest: int) -> bytes | None:
        """The worker's answer, once at most `longest` steps have been played back."""
        return self._read(handle, self.options.worker_timeout * (1 + longest))


def _close(handles: list[Handle]) -> None:
    until = time.monotonic() + 1.0
    for handle in handles:
        with contextlib.suppress(OSError):
            os.close(handle.command)
    for handle in handles:
        handle.command = -1
        handle.close(max(0.0, until - time.monotonic()))
