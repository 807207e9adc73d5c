"""Environments in Ray actors, on any node of a cluster; one that dies loses nothing.

A command and its answer are one message each, with a step of all the worker's environments of a
group; see `actor`. What a pool of processes promises holds here too (`base`).
"""

import contextlib
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from retain._version import __version__
from retain.cluster import connect, is_own, warn_if_none_fits
from retain.envs.buffers import fresh_arrays
from retain.envs.options import EnvOptions
from retain.envs.spaces import columns
from retain.envs.workers.actor import ENDS, GIVEN, Answer, EnvActor, observed, packed, unpacked
from retain.envs.workers.base import START_TIMEOUT, BasePool, Spaces
from retain.envs.workers.block import block_layout
from retain.envs.workers.group import Group
from retain.envs.workers.handle import Handle
from retain.envs.workers.protocol import DONE, PLAY_BACK, Part
from retain.envs.workers.served import start_of
from retain.errors import EnvironmentFailure, UsageError


@dataclass
class ActorHandle(Handle):
    """The trainer's side of an actor."""

    actor: Any
    answers: deque[Any] = field(init=False, default_factory=deque)
    """Ray's references to the answers to `pending`."""
    parts: list[Part] = field(init=False, default_factory=list)
    """What was asked to be played back last."""


class ActorPool(BasePool[ActorHandle]):
    """W actors with the environments of all groups.

    Args:
        env: an id or a callable, as `make` takes it.
        num_envs: number of environments, summed over all groups.
    Raises:
        UsageError: there is no Ray to use, it has no room, or an environment cannot be made.
    """

    def __init__(self, env: Any, num_envs: int, options: EnvOptions) -> None:
        super().__init__(num_envs, options)
        self.ray = connect()  # a saved configuration names no address
        cpus = 0.0 if is_own() else options.worker_cpus  # its cores are nobody else's
        warn_if_none_fits(self.ray, "a worker", cpus=cpus, gpus=0.0)
        self._kind = self.ray.remote(num_cpus=cpus, max_restarts=0)(EnvActor)
        self._start = start_of(env, options) | {"version": __version__}
        self.handles = []
        self.close = weakref.finalize(self, _close, self.ray, self.handles)
        try:
            for number, rows in enumerate(self.rows):
                self.handles.append(ActorHandle(number, rows, self._kind.remote()))
            begun = [self._build(handle) for handle in self.handles]
            self._agree([self._hello(*one) for one in zip(self.handles, begun, strict=True)])
        except UsageError:
            self.close()
            raise
        groups = options.env_groups
        self.keys = list(columns(self.observation_space))
        self.arrays = fresh_arrays(
            block_layout(
                self.observation_space,
                self.action_space,
                workers=options.workers,
                groups=groups,
                each=self.each,
            )
        )
        self.groups = [Group(self, number, self.each) for number in range(groups)]

    def _build(self, handle: ActorHandle) -> Any:
        sizes = [rows.stop - rows.start for rows in handle.rows]
        return handle.actor.build.remote(self._start, sizes)

    def _hello(self, handle: ActorHandle, begun: Any) -> Spaces:
        """The spaces that a new actor has found."""
        errors = self.ray.exceptions
        try:
            content = self.ray.get(begun, timeout=START_TIMEOUT)
        except errors.GetTimeoutError:
            free = self.ray.available_resources().get("CPU", 0.0)
            raise UsageError(
                f"worker {handle.number} found no place within {START_TIMEOUT:.0f} s: it reserves "
                f"{self.options.worker_cpus:g} CPU, and the Ray has {free:g} free"
            ) from None
        except errors.RayError as error:
            if "No module named 'retain" in str(error):
                raise UsageError("a node of the Ray cannot import retain (expected the same "
                                 "version on every machine)") from None  # fmt: skip
            raise UsageError("a worker ended while it made its environments") from None
        return self._understand(handle, content)

    def ask(self, handle: ActorHandle, code: bytes) -> None:
        """Sends a worker a command."""
        number, rows = code[0] // 2, handle.rows[code[0] // 2]
        arrays = self.groups[number].arrays
        said = packed(arrays, GIVEN[code[0] % 2], rows)
        slot = self.groups[number].slot
        self._expect(handle, code, handle.actor.run.remote(code[0], slot, said))

    def ask_play_back(self, handle: ActorHandle, parts: list[Part]) -> None:
        """Asks a worker to play back episodes of each group."""
        handle.parts = parts
        self._expect(handle, PLAY_BACK, handle.actor.play_back.remote(parts))

    def _expect(self, handle: ActorHandle, code: bytes, answer: Any) -> None:
        handle.pending.append(code)
        handle.answers.append(answer)
        handle.asked += 1

    def _read(self, handle: ActorHandle, limit: float) -> bytes | None:
        errors = self.ray.exceptions
        try:
            answer: Answer = self.ray.get(handle.answers[0], timeout=limit)
        except errors.GetTimeoutError:
            return None
        except errors.RayTaskError as error:
            raise EnvironmentFailure(f"worker {handle.number} failed: {error}") from None
        except errors.RayError:  # the actor, its node, or the node's copy of a large answer is gone
            return b""
        handle.answers.popleft()
        written, ahead, news = answer
        code = handle.pending[0]
        if code == PLAY_BACK:
            self._write_played_back(handle, written)
        else:
            self._write(handle, code[0], written, ahead)
        if news is not None:
            self._take_news(handle, news)
        return DONE

    def _write(self, handle: ActorHandle, code: int, written: Any, ahead: Any) -> None:
        """Writes an answer where a worker process would have written it itself."""
        group, rows = self.groups[code // 2], handle.rows[code // 2]
        arrays, names = group.arrays, observed(self.keys, group.slot)
        if code % 2:
            mask = arrays["mask"][rows]
            for name, new in zip(names, unpacked(written, arrays, names, rows), strict=True):
                arrays[name][rows][mask] = new[mask]
            return
        names += ENDS
        for name, new in zip(names, unpacked(written, arrays, names, rows), strict=True):
            arrays[name][rows] = new
        if ahead:
            names = ["begun", *observed(self.keys, 2)]
            for name, new in zip(names, unpacked(ahead, arrays, names, rows), strict=True):
                arrays[name][rows] = new

    def _write_played_back(self, handle: ActorHandle, written: Any) -> None:
        for group, rows, (slot, episodes) in zip(
            self.groups, handle.rows, handle.parts, strict=True
        ):
            if episodes:
                names = observed(self.keys, slot)
                own, written = written[: len(names)], written[len(names) :]
                for name, new in zip(names, unpacked(own, group.arrays, names, rows), strict=True):
                    group.arrays[name][rows] = new

    def _ended(self, handle: ActorHandle) -> str:
        return "ended, or its node did"

    def _renew(self, handle: ActorHandle) -> None:
        _kill(self.ray, handle)
        handle.actor = self._kind.remote()
        handle.answers.clear()
        self._forget(handle)
        self._hello(handle, self._build(handle))


def _kill(ray: Any, handle: ActorHandle) -> None:
    if ray.is_initialized():  # a call after its end would start another
        with contextlib.suppress(Exception):
            ray.kill(handle.actor)


def _close(ray: Any, handles: list[ActorHandle]) -> None:
    for handle in handles:
        _kill(ray, handle)
