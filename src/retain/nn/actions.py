"""Converts actions of a space between networks and environments, without a distribution.

The *policy action* is stored, so that a stored action reproduces its log-probability: unclipped for
a Gaussian, pre-tanh for a squashed one, counted from 0 for Discrete.
"""

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from retain.errors import UsageError


class ActionCoder(nn.Module, ABC):
    """Policy actions of one space: as stored, as features, and in the environment's format."""

    event_shape: tuple[int, ...]
    """Shape of one policy action."""
    dtype: torch.dtype
    """Dtype of policy actions."""
    encoded: int
    """Width of `encode`'s output."""

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Policy actions as features `[..., encoded]` for a network that reads them."""

    @abstractmethod
    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Policy actions in the environment's own format."""


class ExploringCoder(ActionCoder):
    """A coder whose space has uniform random actions."""

    @abstractmethod
    def random(
        self, batch_size: int, generator: Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """`[batch_size, ...]` uniform actions, restricted to `allowed` `[batch_size, n]` if
        given."""


class BoxCoder(ActionCoder):
    """The common part of coders for a one-dimensional Box."""

    dtype = torch.float32
    low: Tensor
    high: Tensor

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        if len(space.shape) != 1:
            raise UsageError(f"Box actions must be one-dimensional, but the space is {space}")
        self.space, self.event_shape, self.encoded = space, space.shape, int(space.shape[0])
        self.register_buffer("low", torch.as_tensor(space.low).float(), False)
        self.register_buffer("high", torch.as_tensor(space.high).float(), False)

    def from_unit(self, action: Tensor) -> Tensor:
        """Actions in [-1, 1] as values between the bounds."""
        return self.low + (action + 1) * 0.5 * (self.high - self.low)

    def as_array(self, action: Tensor) -> NDArray[Any]:
        """The actions as an array of the space's own dtype."""
        values: NDArray[Any] = action.cpu().numpy()
        return values.astype(self.space.dtype, copy=False)


class ClippedActions(BoxCoder):
    """Unbounded values that are clipped to the bounds only on the way to the environment."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space)
        self.bounded = space.is_bounded()

    def encode(self, action: Tensor) -> Tensor:
        """The action that the environment got, scaled to [-1, 1] where it is bounded."""
        if not self.bounded:
            return action
        clipped = torch.clamp(action, self.low, self.high)
        return (clipped - self.low) / (self.high - self.low) * 2 - 1

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The actions clipped to the bounds."""
        return self.as_array(torch.clamp(action, self.low, self.high))


class UnitActions(ClippedActions):
    """Values clipped to [-1, 1] and scaled to the bounds, so that a standard deviation means the
    same for every action; without bounds, values stay unchanged."""

    def encode(self, action: Tensor) -> Tensor:
        """The action that the environment got, in [-1, 1] where it is bounded."""
        return torch.clamp(action, -1.0, 1.0) if self.bounded else action

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The actions scaled to the bounds."""
        return super().to_env(self.from_unit(action) if self.bounded else action)


class SquashedActions(BoxCoder):
    """Values that a tanh later maps into the bounds.

    Raises:
        UsageError: the Box has no finite bounds.
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space)
        if not space.is_bounded():
            raise UsageError(f"squash needs finite action bounds, but the space is {space}")

    def encode(self, action: Tensor) -> Tensor:
        """The squashed actions, in [-1, 1]."""
        return torch.tanh(action)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The actions squashed and scaled to the bounds."""
        inside = self.from_unit(torch.tanh(action))
        return self.as_array(torch.clamp(inside, self.low, self.high))


class BoxActions(BoxCoder, ExploringCoder):
    """A bounded Box; stored actions are scaled to [-1, 1].

    Raises:
        UsageError: the Box has no finite bounds or more than one dimension.
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        if not space.is_bounded() or len(space.shape) != 1:
            raise UsageError(
                f"these actions must be a bounded one-dimensional Box, but the space is {space}"
            )
        super().__init__(space)

    def encode(self, action: Tensor) -> Tensor:
        """The actions unchanged."""
        return action

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The actions scaled to the bounds."""
        return self.as_array(torch.lerp(self.low, self.high, (action + 1) * 0.5))

    def random(
        self, batch_size: int, generator: Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """Actions drawn uniformly within the bounds."""
        shape = (batch_size, *self.event_shape)
        return torch.rand(shape, generator=generator, device=self.low.device) * 2 - 1


class DiscreteActions(ExploringCoder):
    """A Discrete space; stored actions count from 0."""

    dtype = torch.int64
    event_shape = ()

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.encoded, self.start = int(space.n), int(space.start)

    def encode(self, action: Tensor) -> Tensor:
        """The actions as one-hot vectors."""
        return F.one_hot(action, self.encoded).float()

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The actions counted from the space's `start`."""
        values: NDArray[Any] = action.cpu().numpy()
        return values + self.start if self.start else values

    def random(
        self, batch_size: int, generator: Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """Actions drawn uniformly."""
        if allowed is not None:
            return torch.multinomial(allowed.float(), 1, generator=generator).squeeze(-1)
        return torch.randint(
            self.encoded, (batch_size,), generator=generator, device=generator.device
        )


class MultiDiscreteActions(ActionCoder):
    """A one-dimensional MultiDiscrete space; stored actions count from 0."""

    dtype = torch.int64

    def __init__(self, space: gym.spaces.MultiDiscrete) -> None:
        super().__init__()
        self.sizes: tuple[int, ...] = tuple(space.nvec.tolist())
        self.event_shape, self.encoded = (len(self.sizes),), sum(self.sizes)
        self.start = space.start if np.any(space.start) else None

    def encode(self, action: Tensor) -> Tensor:
        """The actions as concatenated one-hot vectors."""
        parts = zip(action.unbind(-1), self.sizes, strict=True)
        return torch.cat([F.one_hot(part, size) for part, size in parts], dim=-1).float()

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The actions counted from the space's `start`."""
        values: NDArray[Any] = action.cpu().numpy()
        return values if self.start is None else values + self.start


class BinaryActions(ActionCoder):
    """A one-dimensional MultiBinary space."""

    dtype = torch.int8

    def __init__(self, space: gym.spaces.MultiBinary) -> None:
        super().__init__()
        self.event_shape, self.encoded = (int(space.shape[0]),), int(space.shape[0])

    def encode(self, action: Tensor) -> Tensor:
        """The bits as floats."""
        return action.float()

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The bits in the space's dtype."""
        bits: NDArray[Any] = action.cpu().numpy()
        return bits


def action_coder(space: gym.Space[Any]) -> ExploringCoder:
    """The coder of an action space for learning from a replay; UsageError if there is none."""
    if isinstance(space, gym.spaces.Box):
        return BoxActions(space)
    if isinstance(space, gym.spaces.Discrete):
        return DiscreteActions(space)
    raise UsageError(
        f"no off-policy algorithm for the action space {space} "
        "(expected a bounded one-dimensional Box, or Discrete)"
    )
