"""Sequences of cards to be repeated (after Morad et al. 2023, POPGym)."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.batch import Batch, Observations


class Cards(Batch):
    """Shows a card of one of several suits at every step; subclasses decide which one to name.

    A right answer earns 1 / n and a wrong one costs 1 / n, with n answers in an episode, so returns
    lie in [-1, 1]: guessing gives 2 / suits - 1.

    Args:
        suits: number of suits, and of actions.
        flags: number of observation entries after the card's one-hot.
        shown: number of cards drawn for an episode.
    """

    def __init__(self, num_envs: int, *, suits: int, flags: int, shown: int) -> None:
        super().__init__(num_envs)
        self.suits = suits
        self.observation_space = gym.spaces.Box(0, 1, (suits + flags,), np.float32)
        self.action_space = gym.spaces.Discrete(suits)
        self.cards = np.zeros((shown, num_envs), dtype=np.int64)

    def draw(self, index: int, generator: np.random.Generator) -> None:
        """Draws every card of an episode."""
        self.cards[:, index] = generator.integers(0, self.suits, len(self.cards))

    def show(self, card: NDArray[np.int64]) -> Observations:
        """`[B, D]` the cards as one-hots, the flags zero."""
        out = np.zeros((self.num_envs, self.observation_space.shape[0]), np.float32)  # type: ignore[index]
        out[self._each, card] = 1.0
        return out

    def judge(
        self, action: NDArray[Any], card: NDArray[np.int64], asked: NDArray[np.bool_], answers: int
    ) -> NDArray[np.float64]:
        """Reward for naming `card` at steps that ask for an answer."""
        return np.where(asked, np.where(action == card, 1.0, -1.0), 0.0) / answers


class RepeatPrevious(Cards):
    """The agent must name the card from k steps ago.

    Args:
        k: number of steps back.
        length: steps in an episode.
    """

    def __init__(self, num_envs: int, *, k: int = 4, suits: int = 4, length: int = 52) -> None:
        super().__init__(num_envs, suits=suits, flags=0, shown=length + 1)
        self.k, self.length = k, length

    def observe(self) -> Observations:
        """The current card."""
        return self.show(self.cards[self.elapsed, self._each])

    def advance(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Scores the answers from step k on."""
        asked = self.elapsed >= self.k
        card = self.cards[np.maximum(self.elapsed - self.k, 0), self._each]
        reward = self.judge(action, card, asked, self.length - self.k)
        return reward, self.elapsed + 1 >= self.length


class RepeatFirst(Cards):
    """The agent must name the first card at every later step."""

    def __init__(self, num_envs: int, *, suits: int = 4, length: int = 52) -> None:
        super().__init__(num_envs, suits=suits, flags=1, shown=length + 1)
        self.length = length

    def observe(self) -> Observations:
        """The current card, and whether it is the first."""
        out = self.show(self.cards[self.elapsed, self._each])
        out[:, -1] = self.elapsed == 0
        return out

    def advance(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Scores the answers after the first step."""
        reward = self.judge(action, self.cards[0], self.elapsed > 0, self.length - 1)
        return reward, self.elapsed + 1 >= self.length


class Autoencode(Cards):
    """The agent watches some cards, then names them in reverse.

    Args:
        length: number of cards to watch; an episode has twice as many steps.
    """

    def __init__(self, num_envs: int, *, suits: int = 4, length: int = 6) -> None:
        super().__init__(num_envs, suits=suits, flags=1, shown=length)
        self.length = length

    def observe(self) -> Observations:
        """The card to remember, or a blank card and the flag that asks for an answer."""
        watching = self.elapsed < self.length
        out = self.show(self.cards[np.minimum(self.elapsed, self.length - 1), self._each])
        out[~watching] = 0.0
        out[:, -1] = ~watching
        return out

    def advance(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Scores the answers in the second half."""
        asked = self.elapsed >= self.length
        which = np.where(asked, 2 * self.length - 1 - self.elapsed, 0)
        reward = self.judge(action, self.cards[which, self._each], asked, self.length)
        return reward, self.elapsed + 1 >= 2 * self.length
