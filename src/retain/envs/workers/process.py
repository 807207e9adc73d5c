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
from mmap import mmap
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from retain.envs.buffers import Layout
from retain.envs.workers.block import arrays_in, group_arrays
from retain.envs.workers.protocol import DONE, NEWS, PLAY_BACK, Watch
from retain.envs.workers.served import Served
from retain.errors import UsageError


def leave_with_parent(command: int) -> None:
    """Ends the process once nobody can send commands any more, whatever it is doing."""
    watch = select.poll()
    watch.register(command, 0)
    watch.poll()
    os._exit(1)


class Worker:
    """The environments of one process, and its connection with the pool."""

    def __init__(self, command: int, reply: int, messages: int, block: int) -> None:
        self.command, self.reply, self.block = command, reply, block
        self.messages = Connection(messages)

    def build(self) -> None:
        """Makes the environments and maps the arrays; sends the parent the spaces in between."""
        start: dict[str, Any] = pickle.loads(self.messages.recv_bytes())
        sys.path[:] = start["path"]
        rows: list[slice] = start["rows"]
        self.served = Served(start, [part.stop - part.start for part in rows])
        self.messages.send_bytes(self.served.hello)
        layout: Layout = pickle.loads(self.messages.recv_bytes())
        shared = arrays_in(layout, memoryview(mmap(self.block, 0)))
        number = start["number"]
        self.asked = Watch(shared["asked"].data[number : number + 1])
        self.done = shared["done"].data[number : number + 1]
        self.served.adopt([group_arrays(shared, g) for g in range(len(rows))], rows)

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
                self.served.play_back(pickle.loads(self.messages.recv_bytes()))
            else:
                self.served.run(code[0])
            news = self.served.take_news()
            self.done[0] = count
            os.write(self.reply, DONE if news is None else NEWS)
            if news is not None:
                self.messages.send_bytes(pickle.dumps(news))


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
