"""Returns for comparison: those of random actions, and the good return of an environment."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.catalogue import CATALOGUE
from retain.envs.contract import Backend, ObsArray
from retain.nn.encoders import ACTION_MASK
from retain.train.contract import Player
from retain.train.evaluate import evaluate
from retain.types import Carry


class RandomPlayer:
    """Plays uniformly random allowed actions in another player's environment."""

    def __init__(self, player: Player) -> None:
        self.player, self.env, self.run_settings = player, player.env, player.run_settings
        self.no_env = player.no_env
        self.observation_space, self.action_space = player.observation_space, player.action_space
        self.no_env = player.no_env
        self.choices = copy.deepcopy(player.action_space)

    def initial_carry(self, batch_size: int = 1) -> Carry:
        """The empty carry."""
        return ()

    def act(
        self,
        obs: ObsArray,
        carry: Carry | None = None,
        reset: bool | NDArray[np.bool_] = False,
        *,
        deterministic: bool = False,
        reward: float | NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.generic], Carry]:
        """An action for each of `[B, ...]` observations."""
        masks = obs.get(ACTION_MASK) if isinstance(obs, dict) else None
        size = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        rows = [self._one(None if masks is None else masks[index]) for index in range(size)]
        return np.stack(rows), ()

    def _one(self, mask: NDArray[Any] | None) -> NDArray[Any]:
        space = self.choices
        if mask is None:
            return np.asarray(space.sample())
        allowed = mask.astype(np.int8)
        if isinstance(space, gym.spaces.MultiDiscrete):
            parts = tuple(np.split(allowed, np.cumsum(space.nvec)[:-1]))
            return np.asarray(space.sample(mask=parts))
        return np.asarray(space.sample(mask=allowed))

    def lent(self) -> AbstractContextManager[Backend]:
        """Lends the other player's training environments."""
        return self.player.lent()

    @contextmanager
    def noise_of(self, seed: int) -> Iterator[None]:
        """Draws the actions from this seed from now on."""
        self.choices.seed(seed)
        yield


def random_return(player: Player, episodes: int) -> float:
    """Mean return of uniformly random actions, in the same episodes that a player is evaluated in.

    Raises:
        UsageError: the player has no environment.
    """
    return evaluate(RandomPlayer(player), episodes).return_mean


def reference(env: str) -> float | None:
    """A good return in an environment: the catalogue's, else its registered reward threshold, else
    None."""
    name = env.split(":")[-1].removeprefix("retain/")
    if name in CATALOGUE and CATALOGUE[name].good is not None:
        return CATALOGUE[name].good
    spec = gym.registry.get(env.split(":")[-1])
    threshold = None if spec is None else spec.reward_threshold
    return None if threshold is None else float(threshold)
