"""The parent's side of a worker, and what a group asks of the pool that has it."""

import contextlib
import os
import subprocess
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import gymnasium as gym
from numpy.typing import NDArray

from retain.envs.workers.protocol import Part, Watch


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


class GroupView(Protocol):
    """What a group asks of its neighbours in the pool."""

    slot: int
    """Which slot its last observations are in."""


class PoolView(Protocol):
    """The part of a pool that a group needs."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    arrays: dict[str, NDArray[Any]]
    """Everything that lies in the shared block, by name."""
    handles: list[Handle]

    @property
    def groups(self) -> Sequence[GroupView]:
        """Every group of the pool."""

    def ask(self, handle: Handle, code: bytes) -> None:
        """Gives a worker a command."""

    def wait(self, handle: Handle, code: bytes) -> None:
        """Until a worker has answered a command, and all before it."""

    def ask_play_back(self, handle: Handle, parts: list[Part]) -> None:
        """Has a worker play episodes again, of each group."""

    def played_back(self, handle: Handle, longest: int) -> bytes | None:
        """Its answer, when that many steps have been played at most."""

    def replace(self, handle: Handle, kind: Any) -> None:
        """A new process for a worker's environments, brought to where the old one was."""

    def close(self) -> Any:
        """Ends the workers."""
