"""The environments of one worker, whatever connects it with the pool; never imports torch."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.buffers import buffers_of, cut_rows, slot_of
from retain.envs.contract import Info, ObsArray
from retain.envs.in_process import InProcess
from retain.envs.make import factory
from retain.envs.workers.protocol import News, Part, plain
from retain.errors import Notice


class Served:
    """One `InProcess` for each group.

    Args:
        start: what the pool says about the environments (`start_of`).
        sizes: number of this worker's environments in each group.
    Raises:
        UsageError: an environment cannot be made.
    """

    def __init__(self, start: Mapping[str, Any], sizes: Sequence[int]) -> None:
        for name, spec in cloudpickle.loads(start["specs"]).items():
            gym.registry.setdefault(name, spec)
        make_one = factory(cloudpickle.loads(start["env"]), start["options"])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default", Notice)
            self.groups = [InProcess([make_one] * size) for size in sizes]
        for warning in said:
            if warning.category is not Notice:
                warnings.showwarning(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        self.notices = [str(w.message) for w in said if w.category is Notice]
        self.infos: list[tuple[int, int, Info]] = []
        self.rows = [slice(0, size) for size in sizes]

    @property
    def hello(self) -> bytes:
        """What the pool must know: the spaces, and lines for the user."""
        first = self.groups[0]
        said = {
            "spaces": (first.observation_space, first.action_space),
            "notices": self.notices,
        }
        content: bytes = cloudpickle.dumps(said)
        return content

    def adopt(self, arrays: Sequence[dict[str, NDArray[Any]]], rows: Sequence[slice]) -> None:
        """Reads from and writes to these arrays of each group from now on, in the worker's rows."""
        self.arrays, self.rows = list(arrays), list(rows)
        space = self.groups[0].observation_space
        self.fresh: list[ObsArray] = []
        for group, own, part in zip(self.groups, self.arrays, self.rows, strict=True):
            group.adopt(buffers_of(space, own).rows(part))
            self.fresh.append(cut_rows(slot_of(space, own, 2), part))

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

    def play_back(self, parts: Sequence[Part]) -> None:
        """Plays episodes back to where they were, into the slots that the message names."""
        for group, (slot, episodes) in zip(self.groups, parts, strict=True):
            group.turn(slot)
            for index, (seed, actions) in enumerate(episodes):
                group.play_back_one(index, seed, actions)

    def take_news(self) -> News | None:
        """Faults and infos since the last call; None if there are none."""
        faults = [(n, fault) for n, group in enumerate(self.groups) for fault in group.faults]
        news: News = (faults, self.infos)
        if not (faults or self.infos):
            return None
        for group in self.groups:
            group.faults = []
        self.infos = []
        return news


def start_of(env: Any, options: Any) -> dict[str, Any]:
    """What a worker must know about the environments, readable in another process."""
    spec = gym.registry.get(env.split(":")[-1]) if isinstance(env, str) else None
    return {
        "path": sys.path,
        "env": cloudpickle.dumps(env),
        "options": options,
        "specs": cloudpickle.dumps({} if spec is None else {spec.id: spec}),
    }
