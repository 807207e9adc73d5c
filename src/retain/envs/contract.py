"""What the collector asks of a batch of environments, whatever runs them. `retain.Backend`.

Nobody resets behind the collector's back: autoreset is off in every backend. The collector resets
finished environments itself, each episode with its own seed, so an episode *is* its seed and its
actions and can always be played again.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.history import History

ObsArray: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]
"""`[B, ...]`, or a dict of such arrays for a Dict space."""
Info: TypeAlias = Mapping[str, object]
"""What an environment says besides, by names of its own."""


class EnvStep(NamedTuple):
    """What B environments answer to B actions. Arrays stay valid until the backend's next call."""

    obs: ObsArray
    """`[B, ...]` the true successor: the final observation where the episode ended."""
    reward: NDArray[np.float64]
    """`[B]`"""
    terminated: NDArray[np.bool_]
    """`[B]` the episode ended for a reason of the task: no value follows."""
    truncated: NDArray[np.bool_]
    """`[B]` the episode was cut from outside: the successor still has a value."""


@dataclass(frozen=True)
class Fault:
    """Something that went wrong in an environment, and was dealt with."""

    kind: Literal["raised", "unusable", "worker died", "worker hung", "not deterministic"]
    """raised: the environment did; unusable: it answered what is not finite, or allowed no action.
    Its episode is cut as truncated. Workers that died or hung are
    replaced and their episodes played back. not deterministic: an episode, played back, did not
    come to where it was, and is cut as truncated."""
    index: int
    """Of the environment in its backend; -1 where it is of a worker."""
    text: str
    """A traceback, or which worker."""


class Backend(ABC):
    """B environments stepped together, with explicit resets.

    A subclass sets both spaces, calls `super().__init__(num_envs)`, and implements `_reset` and
    `_step`, or `_reset`, `send` and `receive` where it steps elsewhere. `docs/environments.md` has
    an example.
    """

    observation_space: gym.Space[Any]
    """One environment's, not the batch's."""
    action_space: gym.Space[Any]
    """One environment's, not the batch's."""

    name = ""
    """What presets, messages and run folders call it; "" stands for the name of its class."""
    replays = True
    """Whether an episode is its seed and its actions. Where it is not, nothing is played back, and
    a resumed run begins new episodes."""
    resets_ahead = False
    """Whether `announce` is of any use."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.history = History(num_envs)
        """Of the current episodes."""
        self.continuing = np.zeros(num_envs, dtype=np.bool_)
        """`[B]` the episode that just ended did so for the learner only (a lost life); its reset
        goes on with the same game, which has the same seed."""
        self.faults: list[Fault] = []
        """What went wrong since somebody emptied the list."""

    def reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        """Starts a new episode where `mask` `[B]` is true, seeded by `seeds` `[B]`.

        Returns:
            `[B, ...]` the new episodes' first observations; the other rows are unchanged from the
            last call. Valid until the next call.
        """
        anew = mask & ~self.continuing
        self.history.begin(anew, seeds)
        return self._reset(anew, seeds)

    def announce(self, seeds: NDArray[np.int64]) -> None:  # noqa: B027 (a hint)
        """The seeds `[B]` that the next episodes will be reset with. A backend may use them to
        reset ahead, where nobody waits for it; the resets are asked for all the same."""

    def step(self, action: NDArray[Any]) -> EnvStep:
        """Steps every environment with `action` `[B, ...]`, in the action space's own dtype.

        An environment whose episode has ended must be reset before it is stepped again. The array
        of actions must not change afterwards: it is part of the episodes' history.
        """
        self.send(action)
        return self.receive()

    def send(self, action: NDArray[Any]) -> None:
        """Begins a step; `receive` must follow."""
        self.history.record(action)
        self._answer = self._step(action)

    def receive(self) -> EnvStep:
        """What the step that `send` began came to."""
        return self._answer

    def info(self, index: int) -> Info:
        """What an environment said besides in the last step; asked only where that step ended its
        episode, and before the next call. Empty where the backend has none."""
        return {}

    def play_back(
        self, seeds: NDArray[np.int64], length: NDArray[np.int64], actions: NDArray[Any]
    ) -> ObsArray:
        """Plays episodes to where they were, in place of the current ones.

        Args:
            seeds, length: `[B]` of each episode.
            actions: `[n, B, ...]` the last n steps of all, n at least the longest.
        Returns:
            `[B, ...]` the observations they come to.
        """
        self.history.load(seeds, length, actions)
        return self.rewind()

    def rewind(self) -> ObsArray:
        """Plays the episodes of `history` to where they were; the observations they come to."""
        return self._play_back()

    def fresh(self, num_envs: int) -> "Backend | None":
        """Other environments of the same kind, to evaluate in; None where there are no others.
        Evaluation then borrows these between two updates, and plays the current episodes back to
        where they were."""
        return None

    def _play_back(self) -> ObsArray:
        """Plays `history` again. The episodes are aligned at their ends, so one pass plays all of
        them; an environment whose turn has not come yet is idled through throw-away episodes."""
        history, actions = self.history, self.history.actions()
        began = history.began - (history.clock - len(actions))
        obs = self._reset(np.ones(self.num_envs, dtype=np.bool_), history.seeds)
        ended = np.zeros(self.num_envs, dtype=np.bool_)
        for t, action in enumerate(actions):
            starting = (began == t) | ended
            if t and starting.any():
                self._reset(starting, history.seeds)
            obs, _, terminated, truncated = self._step(action)
            ended = (terminated | truncated) & ~self.continuing
        starting = began == len(actions)
        if len(actions) and starting.any():
            obs = self._reset(starting, history.seeds)
        return obs

    @abstractmethod
    def _reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        """See `reset`."""

    def _step(self, action: NDArray[Any]) -> EnvStep:
        """See `step`."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 (most backends hold nothing)
        """Releases what the environments hold; the backend is not used after."""
