"""What playing, training and callbacks need of an agent. `Agent` is one; any other will do."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypedDict

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.data.stream import Driver
from retain.envs.contract import Backend, ObsArray
from retain.envs.given import EnvLike
from retain.train.config import RunConfig
from retain.types import Carry

State: TypeAlias = dict[str, Any]
"""What a callback keeps across a resume: JSON, whose values have no type until they are read."""


NO_ENV = (
    "this agent's environment was an object of Python, which no file holds: pass it again, "
    "retain.load(path, env=...)"
)


class Progress(TypedDict, total=False):
    """How far a run is; a checkpoint holds it."""

    start: int
    """Steps of the agent when the run began."""
    total: int
    """Steps that the run takes."""
    of: int
    """Steps of the agent at the end of the schedules, where several runs share them."""
    seconds: float
    """Of training, over all resumed parts."""
    callbacks: dict[str, State]
    """What each callback keeps, by its name."""
    not_deterministic: list[int]
    """Environments whose episodes, played again, did not come to where they were."""


class Player(Protocol):
    """An agent that can play whole episodes."""

    env: EnvLike | None
    no_env: str
    """Why there is no environment, where there is none."""
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
        """The training environments, lent; their current episodes come back as they were."""

    def noise_of(self, seed: int) -> AbstractContextManager[None]:
        """While inside, `act` draws its noise from this seed; then it goes on as before."""


class Learner(Player, Protocol):
    """An agent that can be trained."""

    progress: Progress

    @property
    def name(self) -> str:
        """What a run folder of this agent is called."""

    @property
    def steps(self) -> int:
        """Environment steps learned from so far."""

    @property
    def collector(self) -> Driver:
        """What acts in the training environments."""

    def iterate(
        self, progress: Callable[[], float], over: Callable[[], bool] = ...
    ) -> dict[str, float]:
        """One turn of training; metrics by name."""

    def explain(self, metric: str) -> str:
        """More about a metric that is out of its range; empty where there is no more to say."""

    def description(self) -> Mapping[str, object]:
        """Everything that it is built from."""

    def save(self, path: str | Path, *, shared: Path | None = None) -> Path:
        """Writes a checkpoint."""

    def prune(self, run: Path) -> None:
        """Removes what only checkpoints needed that a run folder no longer holds."""
