"""The seeds and actions from which the current episodes can be played back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

TRIM = 4096
"""Number of unneeded steps that may accumulate before the list is shortened."""


class History:
    """Seeds and actions of B environments' current episodes.

    An episode is its seed and its actions (docs/timeline.md). The history keeps the actions of
    every step since the oldest current episode began.
    """

    def __init__(self, num_envs: int) -> None:
        self.seeds = np.zeros(num_envs, dtype=np.int64)
        self.began = np.zeros(num_envs, dtype=np.int64)
        self.clock = 0
        self.unread: int | None = None
        """Clock of the first step that a recorder has not taken yet; None without a recorder."""
        self._actions: list[NDArray[Any]] = []
        self._first = 0

    @property
    def length(self) -> NDArray[np.int64]:
        """`[B]` steps of each current episode so far."""
        return self.clock - self.began

    def begin(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> None:
        """Begins new episodes where `mask` `[B]` is true."""
        self.began[mask] = self.clock
        self.seeds[mask] = seeds[mask]
        if len(self._actions) > TRIM:
            oldest = int(self.began.min())
            oldest = oldest if self.unread is None else min(oldest, self.unread)
            if oldest - self._first > len(self._actions) // 2:
                del self._actions[: oldest - self._first]
                self._first = oldest

    def record(self, action: NDArray[Any]) -> None:
        """Records one step of every environment; the array must not change afterwards."""
        self._actions.append(action)
        self.clock += 1

    def take(self) -> list[NDArray[Any]]:
        """The actions `[B, ...]` of every step since the last call, for a recorder."""
        assert self.unread is not None
        rows = self._actions[self.unread - self._first :]
        self.unread = self.clock
        return rows

    def load(self, seeds: NDArray[np.int64], length: NDArray[np.int64], actions: Any) -> None:
        """Takes over current episodes from elsewhere.

        Args:
            length: `[B]` steps of each episode.
            actions: `[n, B, ...]` the last n steps; n is at least the longest length.
        """
        self.seeds[:] = seeds
        assert self.unread is None
        self._actions, self._first, self.clock = list(actions), 0, len(actions)
        self.began[:] = self.clock - length

    def actions(self) -> list[NDArray[Any]]:
        """The actions `[B, ...]` of every step since the oldest current episode began."""
        return self._actions[int(self.began.min()) - self._first :]

    def actions_of(self, index: int, *, but_last: int = 0) -> list[Any]:
        """The actions of one environment's current episode, without the last `but_last` steps."""
        last = len(self._actions) - but_last
        return [row[index] for row in self._actions[int(self.began[index]) - self._first : last]]
