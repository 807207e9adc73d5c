"""Environments in worker processes, and nothing lost when one of them dies.

Observations, actions, rewards and ends live in one block of memory that all processes map; a step
costs one byte each way over a pipe and no pickling. The block is an unlinked file and every pipe
ends with its processes, so nothing can stay behind when the trainer is killed.

A worker that dies or hangs is replaced: its environments are made anew and their episodes played
again from seed and actions to where they were, so the run goes on bit-identically.
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
from collections import deque
from dataclasses import dataclass, field
from mmap import mmap
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.buffers import (
    Layout,
    arrays_in,
    buffers_layout,
    buffers_of,
    layout_bytes,
    slot_of,
)
from retain.envs.contract import Backend, EnvStep, Fault, ObsArray
from retain.envs.options import EnvOptions
from retain.envs.worker import DONE, FAULTS, REPLAY, Watch, group_arrays
from retain.errors import EnvironmentFailure, UsageError

START_TIMEOUT = 120.0
"""Seconds for a worker to import what it needs and make its environments."""
PATIENCE = 3
"""Times that a worker may be replaced before the same command is answered."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


Part = tuple[int, list[tuple[int, list[Any]]]]
"""A group's slot to write to, and seed and actions of some environments in order."""


@dataclass
class Handle:
    """The parent's side of a worker."""

    number: int
    rows: list[slice]
    """Its environments in each group."""
    process: subprocess.Popen[bytes]
    command: int
    reply: int
    messages: Connection
    watch: Watch = field(init=False)
    """Of its count of answers."""
    pending: deque[bytes] = field(default_factory=deque)
    """Commands without an answer yet, oldest first."""
    asked: int = 0
    replaced: int = 0
    """Times since the last answer."""

    def close(self, patience: float = 0.0) -> None:
        """Lets it end, or ends it."""
        for end in (self.command, self.reply):
            with contextlib.suppress(OSError):
                os.close(end)
        self.messages.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """W worker processes with the environments of all groups.

    Args:
        env: an id or a callable, as `make` takes it.
        num_envs: of all groups together.
    Raises:
        UsageError: an environment cannot be made; the line is the worker's.
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
        self._finalizer = weakref.finalize(self, _close, self.handles)
        try:
            hello = [self._hello(handle) for handle in self.handles]
            self.observation_space, self.action_space = hello[0]
            if any(spaces != hello[0] for spaces in hello):
                raise UsageError("environments differ in their spaces from one worker to another")
        except UsageError:
            self._finalizer()
            raise
        self._layout = self._plan(groups, each)
        self._file.truncate(layout_bytes(self._layout))
        self.arrays = arrays_in(self._layout, memoryview(mmap(self._file.fileno(), 0)))
        self.groups = [Group(self, number, each) for number in range(groups)]
        for handle in self.handles:
            number = handle.number
            handle.watch = Watch(self.arrays["done"].data[number : number + 1])
            handle.messages.send_bytes(pickle.dumps(self._layout))

    def _plan(self, groups: int, each: int) -> Layout:
        """What lies in the shared block."""
        layout: Layout = dict.fromkeys(("asked", "done"), ((self.options.workers,), np.int64))
        shape, dtype = self.action_space.shape or (), self.action_space.dtype
        for group in range(groups):
            inside = buffers_layout(self.observation_space, each, slots=3) | {
                "action": ((each, *shape), dtype),
                "mask": ((each,), np.bool_),
                "seed": ((each,), np.int64),
                "slot": ((1,), np.int64),
                "announced": ((each,), np.int64),
                "begun": ((each,), np.int64),
            }
            layout |= {f"{group}.{name}": entry for name, entry in inside.items()}
        return layout

    def _spawn(self, number: int, rows: list[slice]) -> Handle:
        ours, theirs = Pipe()
        command_out, command_in = os.pipe()
        reply_out, reply_in = os.pipe()
        given = (command_out, reply_in, theirs.fileno(), self._file.fileno())
        process = subprocess.Popen(
            [sys.executable, "-c", "from retain.envs.worker import main; main()", *map(str, given)],
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
        spaces: tuple[gym.Space[Any], gym.Space[Any]] = said["spaces"]
        return spaces

    def ask(self, handle: Handle, code: bytes) -> None:
        """Gives a worker a command."""
        handle.pending.append(code)
        handle.asked += 1
        self.arrays["asked"][handle.number] = handle.asked
        with contextlib.suppress(BrokenPipeError):  # noticed when the answer is waited for
            os.write(handle.command, code)

    def wait(self, handle: Handle, code: bytes, seconds: float | None = None) -> None:
        """Until a worker has answered a command, and all before it.

        Raises:
            EnvironmentFailure: it was replaced again and again.
        """
        limit = self.options.worker_timeout if seconds is None else seconds
        while code in handle.pending:
            answer = self._read(handle, limit)
            if answer is None or answer == b"":
                self._replace(handle, "worker hung" if answer is None else "worker died")
                continue
            handle.replaced = 0
            handle.pending.popleft()
            if answer == FAULTS:
                self._take_faults(handle)

    def _read(self, handle: Handle, limit: float) -> bytes | None:
        """A worker's next answer; empty when it is dead, None when it takes too long."""
        if handle.watch.reached(handle.asked - len(handle.pending) + 1):
            return os.read(handle.reply, 1)
        ready = select.poll()
        ready.register(handle.reply, select.POLLIN)
        if not ready.poll(limit * 1000):
            return None
        return os.read(handle.reply, 1)

    def _take_faults(self, handle: Handle) -> None:
        for number, fault in pickle.loads(handle.messages.recv_bytes()):
            index = handle.rows[number].start + fault.index
            self.groups[number].faults.append(Fault(fault.kind, index, fault.text))

    def _replace(self, handle: Handle, kind: Any) -> None:
        """A new process for a worker's environments, brought to where the old one was."""
        pending = [code for code in handle.pending if code != REPLAY]
        answer: bytes | None = b"" if kind == "worker died" else None
        while answer not in (DONE, FAULTS):
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
            fault = Fault(kind, -1, f"{text}; its episodes were played again")
            self.groups[0].faults.append(fault)
            self._renew(handle)
            answer = self._catch_up(handle, pending)
        if answer == FAULTS:
            self._take_faults(handle)
        for code in pending:
            self.ask(handle, code)

    def _renew(self, handle: Handle) -> None:
        """A new process, with environments that were never reset."""
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
        """Plays a new worker's episodes to the last answers its predecessor gave; its answer."""
        parts = [
            group.episodes_of(rows, pending)
            for group, rows in zip(self.groups, handle.rows, strict=True)
        ]
        longest = max((len(actions) for _, part in parts for _, actions in part), default=0)
        answer = self.replay(handle, parts, longest)
        if answer in (DONE, FAULTS):
            handle.pending.clear()
            for group, rows, (spare, _) in zip(self.groups, handle.rows, parts, strict=True):
                group.compare(spare, rows, group.reset_code in pending)
        return answer

    def replay(self, handle: Handle, parts: list[Part], longest: int) -> bytes | None:
        """Has a worker play episodes again, of each group; its answer."""
        handle.messages.send_bytes(pickle.dumps(parts))
        self.ask(handle, REPLAY)
        return self._read(handle, self.options.worker_timeout * (1 + longest))


class Group(Backend):
    """One group of a pool's environments."""

    resets_ahead = True

    def __init__(self, pool: Pool, number: int, num_envs: int) -> None:
        super().__init__(num_envs)
        self.pool, self.number = pool, number
        self.observation_space, self.action_space = pool.observation_space, pool.action_space
        self.step_code, self.reset_code = bytes([2 * number]), bytes([2 * number + 1])
        self.arrays = group_arrays(pool.arrays, number)
        self.buffers = buffers_of(pool.observation_space, self.arrays)
        self.arrays["announced"][:] = self.arrays["begun"][:] = -1
        self._fresh = slot_of(pool.observation_space, self.arrays, 2)
        self.slot = 0
        self._lost = np.zeros(num_envs, dtype=np.bool_)
        self._replaying = True

    def _reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        self._replaying = False
        begun = self.arrays["begun"]
        ahead = mask & (begun == seeds)
        if ahead.any():  # done by the workers while others still stepped
            fresh = self._fresh
            for (now,), new in zip(
                self._columns(self.slot),
                fresh.values() if isinstance(fresh, dict) else [fresh],
                strict=True,
            ):
                now[ahead] = new[ahead]
        begun[mask] = -1
        mask = mask & ~ahead
        self.arrays["mask"][:], self.arrays["seed"][:] = mask, seeds
        asked = [h for h in self.pool.handles if mask[h.rows[self.number]].any()]
        for handle in asked:
            self.pool.ask(handle, self.reset_code)
        for handle in asked:
            self.pool.wait(handle, self.reset_code)
        return self.buffers.slots[self.slot]

    def announce(self, seeds: NDArray[np.int64]) -> None:
        """See the contract; a worker resets as soon as an episode ends."""
        self.arrays["announced"][:] = seeds

    def send(self, action: NDArray[Any]) -> None:
        """See the contract."""
        self.history.record(action)
        self.arrays["action"][:] = action
        self.slot = 1 - self.slot
        self.arrays["slot"][0] = self.slot
        for handle in self.pool.handles:
            self.pool.ask(handle, self.step_code)

    def receive(self) -> EnvStep:
        """See the contract."""
        for handle in self.pool.handles:
            self.pool.wait(handle, self.step_code)
        out = self.buffers
        if self._lost.any():
            self._cut_lost()
        return EnvStep(out.slots[self.slot], out.reward, out.terminated, out.truncated)

    def _cut_lost(self) -> None:
        """Episodes that could not be played again end where they were."""
        lost, out = np.flatnonzero(self._lost), self.buffers
        for now, before in self._columns(self.slot, 1 - self.slot):
            now[lost] = before[lost]
        out.reward[lost], out.terminated[lost], out.truncated[lost] = 0.0, False, True
        self._lost[:] = False
        for index in lost.tolist():
            text = "the replayed episode came to another observation"
            self.faults.append(Fault("not deterministic", index, text))

    def _columns(self, *slots: int) -> list[tuple[NDArray[Any], ...]]:
        """The observation's arrays in those slots."""
        chosen = [self.buffers.slots[slot] for slot in slots]
        columns = [list(x.values()) if isinstance(x, dict) else [x] for x in chosen]
        return list(zip(*columns, strict=True))

    def episodes_of(self, rows: slice, pending: list[bytes]) -> Part:
        """What plays some environments to the last answer they gave."""
        stepping, resetting = self.step_code in pending, self.reset_code in pending
        episodes = []
        for i in range(rows.start, rows.stop):
            anew = resetting and self.arrays["mask"][i]
            actions = [] if anew else self.history.actions_of(i, but_last=int(stepping))
            episodes.append((int(self.history.seeds[i]), actions))
        return self.slot if stepping or self._replaying else 1 - self.slot, episodes

    def compare(self, spare: int, rows: slice, resetting: bool) -> None:
        """Marks as lost what did not come back, in slot `spare`, to its last observation."""
        if self._replaying:
            return
        for replayed, last in self._columns(spare, 1 - spare):
            same = (replayed[rows] == last[rows]).reshape(rows.stop - rows.start, -1).all(axis=1)
            if resetting:
                same |= self.arrays["mask"][rows]
            self._lost[rows] |= ~same

    def _replay(self) -> ObsArray:
        pool = self.pool
        self._replaying = True
        self.arrays["begun"][:] = -1
        for handle in pool.handles:
            parts: list[Part] = [(group.slot, []) for group in pool.groups]
            parts[self.number] = self.episodes_of(handle.rows[self.number], [])
            answer = pool.replay(handle, parts, self.history.clock)
            handle.pending.clear()
            if answer == FAULTS:
                pool._take_faults(handle)
            elif answer != DONE:
                pool._replace(handle, "worker hung" if answer is None else "worker died")
        self._replaying = False
        return self.buffers.slots[self.slot]

    def close(self) -> None:
        """Ends the workers, of all groups."""
        self.pool._finalizer()


def _close(handles: list[Handle]) -> None:
    until = time.monotonic() + 1.0
    for handle in handles:
        with contextlib.suppress(OSError):
            os.close(handle.command)
    for handle in handles:
        handle.command = -1
        handle.close(max(0.0, until - time.monotonic()))
