"""The interface of an agent for playing, training and callbacks; `Agent` is one implementation."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypedDict

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.data.shards import Exchange
from retain.data.stream import Driver
from retain.envs.contract import Backend, ObsArray
from retain.envs.given import EnvLike
from retain.train.config import RunConfig
from retain.types import Carry

State: TypeAlias = dict[str, Any]
"""The state that a callback keeps across a resume: JSON, untyped until it is read."""


NO_ENV = (
    "this agent's environment was a Python object, which no file can hold: pass it again, "
    "retain.load(path, env=...)"
)


class Progress(TypedDict, total=False):
    """The progress of a run; a checkpoint holds it."""

    start: int
    """The agent's steps when the run began."""
    total: int
    """Number of steps that the run takes."""
    of: int
    """The agent's steps at the end of the schedules, if several runs share them."""
    seconds: float
    """Seconds of training, over all resumed parts."""
    callbacks: dict[str, State]
    """Each callback's state, by the callback's name."""
    not_deterministic: list[int]
    """Environments whose episodes, played back, did not reach the same state."""


class Player(Protocol):
    """An agent that can play whole episodes."""

    env: EnvLike | None
    no_env: str
    """The reason why there is no environment, if there is none."""
    run_settings: RunConfig
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    def initial_carry(self, batch_size: int = 1) -> Carry:
        """The carry before an episode's first observation."""

    def act(
        self,
        obs: ObsArray,
        carry: Carry | None = None,
        reset: bool | NDArray[np.bool_] = False,
        *,
        deterministic: bool = False,
        reward: float | NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.generic], Carry]:
        """Actions for `[B, ...]` observations, and the next carry."""

    def lent(self) -> AbstractContextManager[Backend]:
        """Lends the training environments; their current episodes come back unchanged."""

    def noise_of(self, seed: int) -> AbstractContextManager[None]:
        """Inside the block, `act` draws its noise from this seed; afterwards, from its own
        generator again."""


class Learner(Player, Protocol):
    """An agent that can be trained."""

    progress: Progress
    ranks: Exchange
    """What connects the processes that train the agent."""

    @property
    def name(self) -> str:
        """The name of a run folder of this agent."""

    @property
    def compiles(self) -> bool:
        """Whether the gradient step is compiled, which takes a while at its first call."""

    @property
    def steps(self) -> int:
        """Environment steps learned from so far."""

    @property
    def collector(self) -> Driver:
        """The driver that acts in the training environments."""

    def iterate(
        self, progress: Callable[[], float], over: Callable[[], bool] = ...
    ) -> dict[str, float]:
        """One turn of training; returns metrics by name."""

    def explain(self, metric: str) -> str:
        """More about a metric that is out of its range; empty if there is no more to say."""

    def description(self) -> Mapping[str, object]:
        """The description that the agent can be built from."""

    def save(self, path: str | Path, *, shared: Path | None = None) -> Path:
        """Writes a checkpoint."""

    def prune(self, run: Path) -> None:
        """Removes files that only belonged to checkpoints that a run folder no longer holds."""
