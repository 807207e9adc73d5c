"""What all pools share: a worker that dies or hangs is replaced, and loses nothing.

Its environments are made anew and their episodes are played back from seed and actions to where
they were, so the run continues bit-identically.
"""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic

import gymnasium as gym
from numpy.typing import NDArray

from retain.envs.contract import Fault
from retain.envs.options import EnvOptions
from retain.envs.workers.group import Group
from retain.envs.workers.handle import H
from retain.envs.workers.protocol import DONE, PLAY_BACK, News, Part
from retain.errors import EnvironmentFailure, UsageError, notice

Spaces = tuple[gym.Space[Any], gym.Space[Any]]
START_TIMEOUT = 120.0
"""Seconds that a worker may take to import its modules and make its environments."""
PATIENCE = 3
"""Number of times that a worker may be replaced before it answers the same command."""


class BasePool(ABC, Generic[H]):
    """Workers with the environments of all groups.

    Args:
        num_envs: number of environments, summed over all groups.
    """

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    arrays: dict[str, NDArray[Any]]
    handles: list[H]
    groups: list[Group[H]]
    close: Callable[[], Any]

    def __init__(self, num_envs: int, options: EnvOptions) -> None:
        self.options, groups, workers = options, options.env_groups, options.workers
        self.each = num_envs // groups
        cuts = [self.each * k // workers for k in range(workers + 1)]
        self.rows = [[slice(cuts[w], cuts[w + 1])] * groups for w in range(workers)]

    @abstractmethod
    def ask(self, handle: H, code: bytes) -> None:
        """Sends a worker a command."""

    @abstractmethod
    def _read(self, handle: H, limit: float) -> bytes | None:
        """A worker's next answer; empty if the worker is dead, None if it takes too long."""

    @abstractmethod
    def _renew(self, handle: H) -> None:
        """Starts a new worker, with environments that have never been reset."""

    @abstractmethod
    def _ended(self, handle: H) -> str:
        """How a dead worker ended."""

    @abstractmethod
    def ask_play_back(self, handle: H, parts: list[Part]) -> None:
        """Asks a worker to play back episodes of each group."""

    def _agree(self, hello: list[Spaces]) -> None:
        """Takes over the spaces that every worker has found.

        Raises:
            UsageError: they differ.
        """
        self.observation_space, self.action_space = hello[0]
        if any(spaces != hello[0] for spaces in hello):
            raise UsageError("environments differ in their spaces from one worker to another")

    def _understand(self, handle: H, content: bytes) -> Spaces:
        """The spaces in a worker's first message.

        Raises:
            UsageError: its environments could not be made.
        """
        said = pickle.loads(content)
        if "usage" in said:
            raise UsageError(said["usage"])
        if "error" in said:
            raise UsageError(f"an environment could not be made in a worker:\n{said['error']}")
        if handle.number == 0:  # the others say the same
            for text in dict.fromkeys(said["notices"]):
                notice(text)
        spaces: Spaces = said["spaces"]
        return spaces

    def _take_news(self, handle: H, news: News) -> None:
        """Passes a worker's news of its environments to their groups."""
        for number, fault in news[0]:
            index = handle.rows[number].start + fault.index
            self.groups[number].faults.append(Fault(fault.kind, index, fault.text))
        for number, index, info in news[1]:
            self.groups[number].infos[handle.rows[number].start + index] = info

    def wait(self, handle: H, code: bytes, seconds: float | None = None) -> None:
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

    def replace(self, handle: H, kind: Any) -> None:
        """Starts a new worker for a worker's environments and brings them to where they were."""
        pending = [code for code in handle.pending if code != PLAY_BACK]
        answer: bytes | None = b"" if kind == "worker died" else None
        while answer != DONE:
            text = f"worker {handle.number} " + (
                "took too long" if answer is None else self._ended(handle)
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

    def _forget(self, handle: H) -> None:
        """Notes that a new worker has been asked nothing, and has begun no episode ahead."""
        handle.asked = 0
        handle.pending.clear()
        for group, rows in zip(self.groups, handle.rows, strict=True):
            group.arrays["begun"][rows] = -1

    def _catch_up(self, handle: H, pending: list[bytes]) -> bytes | None:
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

    def played_back(self, handle: H, longest: int) -> bytes | None:
        """The worker's answer, once at most `longest` steps have been played back."""
        return self._read(handle, self.options.worker_timeout * (1 + longest))
