"""Keeps track of episodes: the seed of each running one, and the results of finished ones."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.envs.contract import Backend, Info, ObsArray
from retain.envs.seeding import episode_seed
from retain.errors import CheckpointError

RECENT = 100
"""Number of finished episodes in the running means of return and length."""
SUCCESS = "is_success"
"""The info entry with which gymnasium's goal tasks report success."""


class Episode(NamedTuple):
    """A finished episode: its undiscounted return in the environment's own rewards, and its
    steps."""

    ret: float
    length: int
    env: int
    """The run's number of the environment."""
    number: int
    """Number of the episode in its environment."""
    seed: int
    end: int
    """The history's clock after the episode's last step."""
    info: Info = MappingProxyType({})
    """The info of the episode's last step."""


def numbers(info: Info) -> dict[str, float]:
    """The entries of an info that are single numbers (booleans become 0 or 1)."""
    found = {}
    for key, value in info.items():
        if isinstance(value, np.ndarray | np.generic) and value.size == 1:
            value = value.item()
        if isinstance(value, bool | int | float):
            found[str(key)] = float(value)
    return found


def info_means(episodes: Iterable[Episode], named: Sequence[str]) -> dict[str, float]:
    """Means over episodes of the entries in their last infos.

    Args:
        named: entries that the result always has, NaN if no episode has them; `is_success` is added
            if any episode has it.
    """
    infos = [numbers(episode.info) for episode in episodes if episode.info]
    found = {}
    for key in dict.fromkeys((SUCCESS, *named)):
        values = [info[key] for info in infos if key in info]
        if values or key in named:
            found[key] = sum(values) / len(values) if values else math.nan
    return found


class Statistics:
    """Finished episodes of all environments."""

    def __init__(self) -> None:
        self.recent: deque[Episode] = deque(maxlen=RECENT)
        """The last finished episodes, with only the numbers of their infos."""
        self.total = 0
        """Number of finished episodes since the beginning."""
        self.shared = False
        """Whether other ranks have environments too: their episodes and these are then counted
        together, by `count`, instead of as they end."""
        self._finished: list[Episode] = []

    def add(self, episode: Episode) -> None:
        """Adds a finished episode."""
        self._finished.append(episode)
        if not self.shared:
            self.count(episode)

    def count(self, episode: Episode) -> None:
        """Takes a finished episode into the statistics."""
        self.recent.append(episode._replace(info=numbers(episode.info)))
        self.total += 1

    def take_finished(self) -> list[Episode]:
        """The episodes finished since the last call."""
        episodes, self._finished = self._finished, []
        return episodes

    def state(self) -> dict[str, Any]:
        """The statistics as JSON."""
        return {"total": self.total, "recent": [list(e) for e in self.recent]}

    def restore(self, facts: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.total = facts["total"]
        self.recent = deque((Episode(*entry) for entry in facts["recent"]), maxlen=RECENT)


class Episodes:
    """Starts the episodes of a backend, each with its own seed, and counts them.

    Args:
        seed: the run's seed.
        first: the run's number of the backend's first environment.
        statistics: receives finished episodes.
    """

    def __init__(
        self, backend: Backend, seed: int, *, first: int = 0, statistics: Statistics | None = None
    ) -> None:
        B = backend.num_envs
        self.backend, self.seed = backend, seed
        self.index = np.arange(first, first + B)
        """`[B]` the run's number of each environment."""
        self.number = np.full(B, -1, dtype=np.int64)
        """`[B]` number of each environment's current episode."""
        self.returns = np.zeros(B, dtype=np.float64)
        self.statistics = statistics or Statistics()

    def begin(self, mask: NDArray[np.bool_]) -> ObsArray:
        """Starts the next episode where `mask` `[B]` is true; returns all environments'
        observations."""
        anew = mask & ~self.backend.continuing
        self.number[anew] += 1
        self.returns[anew] = 0.0
        obs = self.backend.reset(mask, episode_seed(self.seed, self.index, self.number))
        if self.backend.resets_ahead:
            self.backend.announce(episode_seed(self.seed, self.index, self.number + 1))
        return obs

    def record(self, reward: NDArray[np.float64]) -> None:
        """Adds one step of every environment."""
        self.returns += reward

    def finish(self, ended: NDArray[np.bool_]) -> None:
        """Closes the episodes that `ended` `[B]`."""
        history = self.backend.history
        length = history.length
        for index in np.flatnonzero(ended & ~self.backend.continuing):
            self.statistics.add(
                Episode(
                    float(self.returns[index]), int(length[index]), int(self.index[index]),
                    int(self.number[index]), int(history.seeds[index]), history.clock,
                    self.backend.info(int(index)),
                )
            )  # fmt: skip

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Counters, and the actions of the current episodes."""
        history = self.backend.history
        tensors = {
            "number": torch.from_numpy(self.number),
            "length": torch.from_numpy(history.length),
            "returns": torch.from_numpy(self.returns),
        }
        actions = history.actions()
        if actions:
            tensors["actions"] = torch.from_numpy(np.stack(actions))
        return tensors, {"seed": self.seed}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> ObsArray:
        """Plays every current episode back to where it was; returns all environments' observations.

        Raises:
            CheckpointError: the saved episodes do not fit these environments.
        """
        self.count_from(tensors, facts)
        length = tensors["length"].numpy()
        rows = (*self.index.shape, *(self.backend.action_space.shape or ()))
        actions = tensors["actions"].numpy() if "actions" in tensors else np.zeros((0, *rows))
        fits = self.number.shape == self.returns.shape == length.shape == self.index.shape
        fits = fits and actions.shape[1:] == rows
        if not (fits and (length >= 0).all() and (length <= len(actions)).all()):
            raise CheckpointError("the saved episodes do not fit their environments")
        return self.backend.play_back(
            episode_seed(self.seed, self.index, self.number), length, actions
        )

    def count_from(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restores only the counters."""
        self.seed = facts["seed"]
        self.number = tensors["number"].numpy().copy()
        self.returns = tensors["returns"].numpy().copy()
