"""The trainer's side of a worker, and a group's view of its pool."""

import contextlib
import os
import subprocess
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

import gymnasium as gym
from numpy.typing import NDArray

from retain.envs.workers.protocol import Part, Watch


@dataclass
class Handle:
    """The trainer's side of a worker."""

    number: int
    rows: list[slice]
    """The worker's environments in each group."""
    pending: deque[bytes] = field(init=False, default_factory=deque)
    """Commands without an answer yet, oldest first."""
    asked: int = field(init=False, default=0)
    replaced: int = field(init=False, default=0)
    """Number of replacements since the last answer."""


@dataclass
class ProcessHandle(Handle):
    """The trainer's side of a worker process."""

    process: subprocess.Popen[bytes]
    command: int
    reply: int
    messages: Connection
    watch: Watch = field(init=False)
    """Watches the worker's count of answers."""

    def close(self, patience: float = 0.0) -> None:
        """Lets the worker end by itself, or kills it."""
        for end in (self.command, self.reply):
            with contextlib.suppress(OSError):
                os.close(end)
        self.messages.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


H = TypeVar("H", bound=Handle)


class GroupView(Protocol):
    """A group's view of its neighbours in the pool."""

    slot: int
    """The slot of the group's last observations."""


class PoolView(Protocol[H]):
    """The part of a pool that a group needs."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    arrays: dict[str, NDArray[Any]]
    """All arrays of the shared block, by name."""
    handles: list[H]

    @property
    def groups(self) -> Sequence[GroupView]:
        """Every group of the pool."""

    def ask(self, handle: H, code: bytes) -> None:
        """Sends a worker a command."""

    def wait(self, handle: H, code: bytes) -> None:
        """Waits until a worker has answered a command and all commands before it."""

    def ask_play_back(self, handle: H, parts: list[Part]) -> None:
        """Asks a worker to play back episodes of each group."""

    def played_back(self, handle: H, longest: int) -> bytes | None:
        """The worker's answer, once at most `longest` steps have been played back."""

    def replace(self, handle: H, kind: Any) -> None:
        """Starts a new worker for a worker's environments and brings them to where they were."""

    def close(self) -> Any:
        """Ends the workers."""
