"""A worker process: steps some of a run's environments on command, and never imports torch.

`main()` is started as `python -c "..." COMMAND REPLY MESSAGES BLOCK` with four
inherited file descriptors: a pipe of one-byte commands, a pipe of one-byte answers, a socket for
the rare longer messages, and the memory that all arrays live in.

`protocol` defines the commands and answers.
"""

import os
import pickle
import select
import signal
import sys
import threading
import traceback
import warnings
from mmap import mmap
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.buffers import Layout, buffers_of, cut_rows, slot_of
from retain.envs.contract import Info, ObsArray
from retain.envs.in_process import InProcess
from retain.envs.make import factory
from retain.envs.workers.block import arrays_in, group_arrays
from retain.envs.workers.protocol import DONE, NEWS, PLAY_BACK, News, Watch, plain
from retain.errors import Notice, UsageError


def leave_with_parent(command: int) -> None:
    """Ends the process once nobody can send commands any more, whatever it is doing."""
    watch = select.poll()
    watch.register(command, 0)
    watch.poll()
    os._exit(1)


class Worker:
    """The environments of one process, one `InProcess` for each group."""

    def __init__(self, command: int, reply: int, messages: int, block: int) -> None:
        self.command, self.reply, self.block = command, reply, block
        self.messages = Connection(messages)
        self.infos: list[tuple[int, int, Info]] = []

    def build(self) -> None:
        """Makes the environments and maps the arrays; sends the parent the spaces in between."""
        start: dict[str, Any] = pickle.loads(self.messages.recv_bytes())
        sys.path[:] = start["path"]
        for name, spec in cloudpickle.loads(start["specs"]).items():
            gym.registry.setdefault(name, spec)
        make_one = factory(cloudpickle.loads(start["env"]), start["options"])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default", Notice)
            self.groups = [InProcess([make_one] * (r.stop - r.start)) for r in start["rows"]]
        for warning in said:
            if warning.category is not Notice:
                warnings.showwarning(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        first = self.groups[0]
        self.messages.send_bytes(
            cloudpickle.dumps(
                {
                    "spaces": (first.observation_space, first.action_space),
                    "notices": [str(w.message) for w in said if w.category is Notice],
                }
            )
        )
        layout: Layout = pickle.loads(self.messages.recv_bytes())
        shared = arrays_in(layout, memoryview(mmap(self.block, 0)))
        number = start["number"]
        self.asked = Watch(shared["asked"].data[number : number + 1])
        self.done = shared["done"].data[number : number + 1]
        self.rows: list[slice] = start["rows"]
        self.arrays = [group_arrays(shared, g) for g in range(len(self.groups))]
        self.fresh: list[ObsArray] = []
        for group, arrays, rows in zip(self.groups, self.arrays, self.rows, strict=True):
            group.adopt(buffers_of(first.observation_space, arrays).rows(rows))
            fresh = slot_of(first.observation_space, arrays, 2)
            self.fresh.append(cut_rows(fresh, rows))

    def serve(self) -> None:
        """Answers commands until the parent is gone."""
        count = 0
        while True:
            self.asked.reached(count + 1)
            code = os.read(self.command, 1)
            if not code:
                return
            count += 1
            if code == PLAY_BACK:
                self.play_back()
            else:
                self.run(code[0])
            faults = [(n, fault) for n, group in enumerate(self.groups) for fault in group.faults]
            news: News = (faults, self.infos)
            said = bool(faults or self.infos)
            self.done[0] = count
            os.write(self.reply, NEWS if said else DONE)
            if said:
                for group in self.groups:
                    group.faults.clear()
                self.infos = []
                self.messages.send_bytes(pickle.dumps(news))

    def run(self, code: int) -> None:
        """Runs a step or the resets of a group."""
        group, arrays, rows = self.groups[code // 2], self.arrays[code // 2], self.rows[code // 2]
        slot = int(arrays["slot"][0])
        if code % 2:
            group.turn(slot)
            group.reset_rows(arrays["mask"][rows], arrays["seed"][rows])
        else:
            group.turn(1 - slot)  # a step writes the other one
            out = group.step_rows(arrays["action"][rows])
            ended = out.terminated | out.truncated
            if ended.any():
                self.note_infos(code // 2, ended)
                self.reset_ahead(code // 2, ended)

    def note_infos(self, number: int, ended: NDArray[np.bool_]) -> None:
        """Collects the infos of ended episodes for the parent."""
        for index in np.flatnonzero(ended).tolist():
            info = self.groups[number].info(index)
            readable = {
                k: value for k, value in info.items() if isinstance(k, str) and plain(value)
            }
            if readable:
                self.infos.append((number, index, readable))

    def reset_ahead(self, number: int, ended: NDArray[np.bool_]) -> None:
        """Begins the announced episodes, in separate rows: the final observations stay in place
        until the parent asks for the new ones."""
        group, arrays, rows = self.groups[number], self.arrays[number], self.rows[number]
        announced, begun = arrays["announced"][rows], arrays["begun"][rows]
        for index in np.flatnonzero(ended & (announced >= 0)).tolist():
            if group.reset_into(self.fresh[number], index, int(announced[index])):
                begun[index] = announced[index]

    def play_back(self) -> None:
        """Plays episodes back to where they were, into the slots that the message names."""
        for group, (slot, episodes) in zip(
            self.groups, pickle.loads(self.messages.recv_bytes()), strict=True
        ):
            group.turn(slot)
            for index, (seed, actions) in enumerate(episodes):
                group.play_back_one(index, seed, actions)


def main() -> None:
    """The entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's business
    worker = Worker(*map(int, sys.argv[1:]))
    threading.Thread(target=leave_with_parent, args=(worker.command,), daemon=True).start()
    try:
        worker.build()
    except UsageError as error:
        worker.messages.send_bytes(cloudpickle.dumps({"usage": str(error)}))
        return
    except Exception:
        worker.messages.send_bytes(cloudpickle.dumps({"error": traceback.format_exc()}))
        return
    worker.serve()
