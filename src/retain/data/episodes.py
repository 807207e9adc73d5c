"""Episode bookkeeping: seeds, statistics, and the actions that play a current episode again."""

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.envs.contract import Backend, ObsArray
from retain.envs.seeding import episode_seed

RECENT = 100
"""Finished episodes that the running means of return and length look back on."""

TRIM = 4096
"""Steps of actions kept beyond need before the history is shortened."""


class Episode(NamedTuple):
    """A finished episode: undiscounted return in the environment's own rewards, and steps."""

    ret: float
    length: int


class Episodes:
    """Starts the episodes of a backend, each with its own seed, and remembers how to repeat them.

    An episode is its seed and its actions (docs/timeline.md), so the history holds the actions of
    every step since the oldest current episode began.
    """

    def __init__(self, backend: Backend, seed: int) -> None:
        B = backend.num_envs
        self.backend, self.seed = backend, seed
        self.number = np.full(B, -1, dtype=np.int64)
        self.began = np.zeros(B, dtype=np.int64)
        self.returns = np.zeros(B, dtype=np.float64)
        self.recent: deque[Episode] = deque(maxlen=RECENT)
        self.finished: list[Episode] = []
        self.total = 0
        self._actions: list[NDArray[Any]] = []
        self._first_kept = 0
        self._clock = 0

    def seeds(self) -> NDArray[np.int64]:
        """`[B]` the seeds of the current episodes."""
        return episode_seed(self.seed, np.arange(len(self.number)), self.number)

    def begin(self, mask: NDArray[np.bool_]) -> ObsArray:
        """Starts the next episode where `mask` `[B]` is true; all environments' observations."""
        self.number[mask] += 1
        self.began[mask] = self._clock
        self.returns[mask] = 0.0
        return self.backend.reset(mask, self.seeds())

    def record(self, action: NDArray[Any], reward: NDArray[np.float64]) -> None:
        """Takes in one step of every environment."""
        self._actions.append(action)
        self._clock += 1
        self.returns += reward

    def finish(self, ended: NDArray[np.bool_], *, counted: bool = True) -> None:
        """Closes the episodes that `ended` `[B]`; not `counted`, they enter no statistic."""
        for index in np.flatnonzero(ended) if counted else ():
            episode = Episode(float(self.returns[index]), int(self._clock - self.began[index]))
            self.recent.append(episode)
            self.finished.append(episode)
            self.total += 1
        if len(self._actions) > TRIM:
            oldest = int(np.where(ended, self._clock, self.began).min())
            if oldest - self._first_kept > len(self._actions) // 2:
                del self._actions[: oldest - self._first_kept]
                self._first_kept = oldest

    def take_finished(self) -> list[Episode]:
        """The episodes finished since the last call."""
        episodes, self.finished = self.finished, []
        return episodes

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Counters, and the actions of the current episodes."""
        oldest = int(self.began.min())
        kept = self._actions[oldest - self._first_kept :]
        tensors = {
            "number": torch.from_numpy(self.number),
            "length": torch.from_numpy(self._clock - self.began),
            "returns": torch.from_numpy(self.returns),
        }
        if kept:
            tensors["actions"] = torch.from_numpy(np.stack(kept))
        facts = {"seed": self.seed, "total": self.total, "recent": [list(e) for e in self.recent]}
        return tensors, facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> ObsArray:
        """Plays every current episode again to where it was; all environments' observations.

        The episodes are aligned at their ends, so one pass over the backend replays them all. An
        environment whose turn has not come yet is idled through throw-away episodes.
        """
        self.seed, self.total = facts["seed"], facts["total"]
        self.recent = deque((Episode(*entry) for entry in facts["recent"]), maxlen=RECENT)
        self.number = tensors["number"].numpy().copy()
        self.returns = tensors["returns"].numpy().copy()
        length = tensors["length"].numpy()
        actions = tensors["actions"].numpy() if "actions" in tensors else np.zeros((0,))
        self._actions, self._first_kept, self._clock = list(actions), 0, len(actions)
        self.began = self._clock - length
        seeds = self.seeds()
        everywhere = np.ones(len(length), dtype=np.bool_)
        obs = self.backend.reset(everywhere, seeds)
        ended = np.zeros_like(everywhere)
        for t in range(self._clock):
            starting = (self.began == t) | ended
            if starting.any() and t:
                self.backend.reset(starting, seeds)
            obs, _, terminated, truncated = self.backend.step(actions[t])
            ended = terminated | truncated
        starting = self.began == self._clock
        if starting.any() and self._clock:
            obs = self.backend.reset(starting, seeds)
        return obs
