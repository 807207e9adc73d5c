"""Actions of a space between networks and environments, without a distribution over them."""

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from retain.errors import UsageError


class ActionCoder(nn.Module, ABC):
    """Policy actions of one space: as stored, as features, as the environment takes them."""

    event_shape: tuple[int, ...]
    dtype: torch.dtype
    encoded: int

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Stored actions as features `[..., encoded]`."""

    @abstractmethod
    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Stored actions as the environment's own values."""

    @abstractmethod
    def random(
        self, batch_size: int, generator: Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """`[batch_size, ...]` uniform actions, among those `allowed` `[batch_size, n]` if given."""


class BoxActions(ActionCoder):
    """A bounded Box; stored actions are scaled to [-1, 1].

    Raises:
        UsageError: the Box has no finite bounds or more than one dimension.
    """

    low: Tensor
    high: Tensor
    dtype = torch.float32

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        if not space.is_bounded() or len(space.shape) != 1:
            raise UsageError(
                f"these actions must be a bounded one-dimensional Box, but the space is {space}"
            )
        self.space, self.event_shape, self.encoded = space, space.shape, int(space.shape[0])
        self.register_buffer("low", torch.as_tensor(space.low).float(), False)
        self.register_buffer("high", torch.as_tensor(space.high).float(), False)

    def encode(self, action: Tensor) -> Tensor:
        """As they are."""
        return action

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Scaled to the bounds."""
        scaled = torch.lerp(self.low, self.high, (action + 1) * 0.5)
        values: NDArray[Any] = scaled.cpu().numpy()
        return values.astype(self.space.dtype, copy=False)

    def random(
        self, batch_size: int, generator: Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """Uniform within the bounds."""
        shape = (batch_size, *self.event_shape)
        return torch.rand(shape, generator=generator, device=self.low.device) * 2 - 1


class DiscreteActions(ActionCoder):
    """A Discrete space; stored actions count from 0."""

    dtype = torch.int64
    event_shape = ()

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.encoded, self.start = int(space.n), int(space.start)

    def encode(self, action: Tensor) -> Tensor:
        """One-hot."""
        return F.one_hot(action, self.encoded).float()

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Counted from the space's `start`."""
        values: NDArray[Any] = action.cpu().numpy()
        return values + self.start if self.start else values

    def random(
        self, batch_size: int, generator: Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """Uniform."""
        if allowed is not None:
            return torch.multinomial(allowed.float(), 1, generator=generator).squeeze(-1)
        return torch.randint(
            self.encoded, (batch_size,), generator=generator, device=generator.device
        )


def action_coder(space: gym.Space[Any]) -> ActionCoder:
    """The coder of an action space; UsageError when there is none."""
    if isinstance(space, gym.spaces.Box):
        return BoxActions(space)
    if isinstance(space, gym.spaces.Discrete):
        return DiscreteActions(space)
    raise UsageError(
        f"no off-policy algorithm for the action space {space} "
        "(expected a bounded one-dimensional Box, or Discrete)"
    )
