"""The contract between the collector and a batch of environments, `retain.Backend`.

Autoreset is off in every backend. The collector resets finished environments itself, each episode
with its own seed, so an episode *is* its seed and its actions and can always be played back.
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
"""Further information from an environment, under the environment's own names."""


class EnvStep(NamedTuple):
    """The response of B environments to B actions. Arrays stay valid until the backend's next
    call."""

    obs: ObsArray
    """`[B, ...]` the true successor: the final observation where the episode ended."""
    reward: NDArray[np.float64]
    """`[B]` rewards."""
    terminated: NDArray[np.bool_]
    """`[B]` true where the episode ended for a reason of the task: no value follows."""
    truncated: NDArray[np.bool_]
    """`[B]` true where the episode was cut from outside: the successor still has a value."""


@dataclass(frozen=True)
class Fault:
    """A fault in an environment that has been handled."""

    kind: Literal["raised", "unusable", "worker died", "worker hung", "not deterministic"]
    """The kind of fault. raised: the environment raised an exception. unusable: its response was
    not finite or allowed no action. In both cases its episode is truncated. worker died, worker
    hung: the worker was replaced and its episodes were played back. not deterministic:
    an episode that was played back did not reach the same state, and is truncated."""
    index: int
    """Index of the environment in its backend; -1 if the fault belongs to a worker."""
    text: str
    """A traceback, or the name of the worker."""


class Backend(ABC):
    """B environments stepped together, with explicit resets.

    A subclass sets both spaces, calls `super().__init__(num_envs)`, and implements `_reset` and
    `_step`, or `_reset`, `send` and `receive` if it steps asynchronously. `docs/environments.md`
    has an example.
    """

    observation_space: gym.Space[Any]
    """The observation space of one environment, not of the batch."""
    action_space: gym.Space[Any]
    """The action space of one environment, not of the batch."""

    name = ""
    """The name for presets, messages and run folders; "" stands for the name of the class."""
    plays_back = True
    """Whether an episode is determined by its seed and its actions. If not, nothing is played back,
    and a resumed run begins new episodes."""
    resets_ahead = False
    """Whether the backend uses `announce`."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.history = History(num_envs)
        """Seeds and actions of the current episodes."""
        self.continuing = np.zeros(num_envs, dtype=np.bool_)
        """`[B]` true where the episode that just ended did so only for the learner (a lost life);
        its reset continues the same game, which has the same seed."""
        self.faults: list[Fault] = []
        """Faults since the list was last emptied."""

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
        """Announces the seeds `[B]` of the next resets. A backend may use them to reset ahead of
        time, while nobody waits; the resets themselves are still requested later."""

    def step(self, action: NDArray[Any]) -> EnvStep:
        """Steps every environment with `action` `[B, ...]`, in the action space's own dtype.

        An environment whose episode has ended must be reset before its next step. The array of
        actions must not change afterwards, since it is part of the episodes' history.
        """
        self.send(action)
        return self.receive()

    def send(self, action: NDArray[Any]) -> None:
        """Begins a step; `receive` must follow."""
        self.history.record(action)
        self._answer = self._step(action)

    def receive(self) -> EnvStep:
        """Returns the result of the step that `send` began."""
        return self._answer

    def info(self, index: int) -> Info:
        """The last step's info from one environment. Called only if that step ended the
        environment's episode, and before the next call. Empty if the backend has no infos."""
        return {}

    def play_back(
        self, seeds: NDArray[np.int64], length: NDArray[np.int64], actions: NDArray[Any]
    ) -> ObsArray:
        """Plays episodes back to where they were, in place of the current ones.

        Args:
            seeds, length: `[B]` seed and length of each episode.
            actions: `[n, B, ...]` the last n steps of all episodes; n is at least the longest
                length.
        Returns:
            `[B, ...]` the observations at the end.
        """
        self.history.load(seeds, length, actions)
        return self.rewind()

    def rewind(self) -> ObsArray:
        """Plays the episodes in `history` back to where they were; returns the final
        observations."""
        return self._play_back()

    def fresh(self, num_envs: int) -> "Backend | None":
        """Separate environments of the same kind, for evaluation; None if there can be none.
        Evaluation then borrows this backend between two updates, and plays the current episodes
        back to where they were."""
        return None

    def _play_back(self) -> ObsArray:
        """Plays `history` back. The episodes are aligned at their ends, so one pass plays all;
        an environment that starts later plays throw-away episodes until then."""
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
        """Releases the environments' resources; the backend must not be used afterwards."""
