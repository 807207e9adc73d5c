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
from retain.nn.noise import Source, uniform


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
    def in_env(self, action: Tensor) -> Tensor:
        """Policy actions as the environment means them: scaled, clipped, counted from its start."""

    @property
    def env_dtype(self) -> torch.dtype:
        """Dtype of the environment's own actions."""
        return self.dtype

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Policy actions in the environment's own format."""
        values: NDArray[Any] = self.in_env(action).cpu().numpy()
        return values


class ExploringCoder(ActionCoder):
    """A coder whose space has uniform random actions."""

    @abstractmethod
    def random(self, batch_size: int, source: Source, allowed: Tensor | None = None) -> Tensor:
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

    @property
    def env_dtype(self) -> torch.dtype:
        """The space's own dtype."""
        return torch.from_numpy(np.empty(0, self.space.dtype)).dtype

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The actions as an array of the space's own dtype."""
        return super().to_env(action).astype(self.space.dtype, copy=False)


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

    def in_env(self, action: Tensor) -> Tensor:
        """The actions clipped to the bounds."""
        return torch.clamp(action, self.low, self.high)


class UnitActions(ClippedActions):
    """Values clipped to [-1, 1] and scaled to the bounds, so that a standard deviation means the
    same for every action; without bounds, values stay unchanged."""

    def encode(self, action: Tensor) -> Tensor:
        """The action that the environment got, in [-1, 1] where it is bounded."""
        return torch.clamp(action, -1.0, 1.0) if self.bounded else action

    def in_env(self, action: Tensor) -> Tensor:
        """The actions scaled to the bounds."""
        return super().in_env(self.from_unit(action) if self.bounded else action)


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

    def in_env(self, action: Tensor) -> Tensor:
        """The actions squashed and scaled to the bounds."""
        inside = self.from_unit(torch.tanh(action))
        return torch.clamp(inside, self.low, self.high)


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

    def in_env(self, action: Tensor) -> Tensor:
        """The actions scaled to the bounds."""
        return torch.lerp(self.low, self.high, (action + 1) * 0.5)

    def random(self, batch_size: int, source: Source, allowed: Tensor | None = None) -> Tensor:
        """Actions drawn uniformly within the bounds."""
        return uniform((batch_size, *self.event_shape), source, self.low.device) * 2 - 1


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

    def in_env(self, action: Tensor) -> Tensor:
        """The actions counted from the space's `start`."""
        return action + self.start if self.start else action

    def random(self, batch_size: int, source: Source, allowed: Tensor | None = None) -> Tensor:
        """Actions drawn uniformly."""
        if not isinstance(source, Generator):  # noise that somebody else draws is of fixed shape
            race = uniform((batch_size, self.encoded), source)
            return (race if allowed is None else race.masked_fill(~allowed, -1.0)).argmax(-1)
        if allowed is not None:
            return torch.multinomial(allowed.float(), 1, generator=source).squeeze(-1)
        return torch.randint(self.encoded, (batch_size,), generator=source, device=source.device)


class MultiDiscreteActions(ActionCoder):
    """A one-dimensional MultiDiscrete space; stored actions count from 0."""

    dtype = torch.int64
    start: Tensor

    def __init__(self, space: gym.spaces.MultiDiscrete) -> None:
        super().__init__()
        self.sizes: tuple[int, ...] = tuple(space.nvec.tolist())
        self.event_shape, self.encoded = (len(self.sizes),), sum(self.sizes)
        self.starts = bool(np.any(space.start))
        self.register_buffer("start", torch.as_tensor(space.start).long(), False)

    def encode(self, action: Tensor) -> Tensor:
        """The actions as concatenated one-hot vectors."""
        parts = zip(action.unbind(-1), self.sizes, strict=True)
        return torch.cat([F.one_hot(part, size) for part, size in parts], dim=-1).float()

    def in_env(self, action: Tensor) -> Tensor:
        """The actions counted from the space's `start`."""
        return action + self.start if self.starts else action


class BinaryActions(ActionCoder):
    """A one-dimensional MultiBinary space."""

    dtype = torch.int8

    def __init__(self, space: gym.spaces.MultiBinary) -> None:
        super().__init__()
        self.event_shape, self.encoded = (int(space.shape[0]),), int(space.shape[0])

    def encode(self, action: Tensor) -> Tensor:
        """The bits as floats."""
        return action.float()

    def in_env(self, action: Tensor) -> Tensor:
        """The bits unchanged."""
        return action


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
