"""From features to a distribution over one action space, and from its actions to the space's own.

The *policy action* is what the distribution samples and what is stored, so the stored action
reproduces the stored log-probability: unclipped for a Gaussian, pre-tanh for a squashed one,
counted from 0 for Discrete. `to_env` turns it into what the environment takes.
"""

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.actions import DiscreteActions
from retain.nn.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    SquashedGaussian,
    StateDependentGaussian,
    draw_exploration,
)
from retain.nn.encoders import orthogonal


class ActionHead(nn.Module, ABC):
    """Distribution over the actions of one space, given features `[..., F]`."""

    event_shape: tuple[int, ...]
    """Shape of one policy action."""
    dtype: torch.dtype
    """Dtype of policy actions."""
    encoded: int
    """Width of `encode`'s output."""

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` and an optional mask of allowed actions to a distribution."""

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Policy actions as features `[..., encoded]` for a network that reads the last one."""

    @abstractmethod
    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Policy actions as the environment's own values."""

    def draw_exploration(self, batch_size: int, generator: torch.Generator) -> Tensor | None:
        """Noise that several steps share, where the distribution has such (gSDE); else None."""
        return None

    def sample(
        self, dist: Distribution, exploration: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """A policy action from `dist`, under the shared noise where there is one."""
        return dist.sample(generator)


def _no_mask(mask: Tensor | None, space: gym.Space[Any]) -> None:
    if mask is not None:
        raise UsageError(f"an action mask cannot apply to the action space {space}")


class DiscreteHead(ActionHead):
    """Categorical over a Discrete space."""

    event_shape = ()
    dtype = torch.int64

    def __init__(self, features: int, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.actions = DiscreteActions(space)
        self.encoded = self.actions.encoded
        self.linear = orthogonal(nn.Linear(features, self.encoded), 0.01)

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a Categorical."""
        return Categorical(self.linear.forward(x), mask)

    def encode(self, action: Tensor) -> Tensor:
        """One-hot."""
        return self.actions.encode(action)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Counted from the space's `start`."""
        return self.actions.to_env(action)


class MultiDiscreteHead(ActionHead):
    """Independent Categoricals over a one-dimensional MultiDiscrete space."""

    dtype = torch.int64

    def __init__(self, features: int, space: gym.spaces.MultiDiscrete) -> None:
        super().__init__()
        self.sizes: tuple[int, ...] = tuple(space.nvec.tolist())
        self.event_shape, self.encoded = (len(self.sizes),), sum(self.sizes)
        self.start = space.start if np.any(space.start) else None
        self.linear = orthogonal(nn.Linear(features, self.encoded), 0.01)

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a MultiCategorical."""
        return MultiCategorical(self.linear.forward(x), self.sizes, mask)

    def encode(self, action: Tensor) -> Tensor:
        """Concatenated one-hots."""
        parts = zip(action.unbind(-1), self.sizes, strict=True)
        return torch.cat([F.one_hot(part, size) for part, size in parts], dim=-1).float()

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Counted from the space's `start`."""
        values: NDArray[Any] = action.cpu().numpy()
        return values if self.start is None else values + self.start


class BinaryHead(ActionHead):
    """Independent Bernoullis over a one-dimensional MultiBinary space."""

    dtype = torch.int8

    def __init__(self, features: int, space: gym.spaces.MultiBinary) -> None:
        super().__init__()
        self.space = space
        self.event_shape, self.encoded = (int(space.shape[0]),), int(space.shape[0])
        self.linear = orthogonal(nn.Linear(features, self.encoded), 0.01)

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a Bernoulli."""
        _no_mask(mask, self.space)
        return Bernoulli(self.linear.forward(x))

    def encode(self, action: Tensor) -> Tensor:
        """The bits as floats."""
        return action.float()

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """The bits."""
        bits: NDArray[Any] = action.cpu().numpy()
        return bits


class BoxHead(ActionHead):
    """Gaussian over a Box: diagonal, squashed by tanh, or with state-dependent exploration.

    Args:
        squash: tanh of the Gaussian scaled to the bounds, instead of clipping to them.
        use_sde: generalised state-dependent exploration (Raffin et al. 2021, arXiv:2005.05719).
        log_std_init: the logarithm of the standard deviation to start from.
    Raises:
        UsageError: `squash` on a Box without finite bounds, or with `use_sde`.
    """

    dtype = torch.float32
    low: Tensor
    high: Tensor

    def __init__(
        self,
        features: int,
        space: gym.spaces.Box,
        *,
        squash: bool,
        use_sde: bool,
        log_std_init: float,
    ) -> None:
        super().__init__()
        if squash and not space.is_bounded():
            raise UsageError(f"squash needs finite action bounds, but the space is {space}")
        if squash and use_sde:
            raise UsageError("squash and use_sde exclude each other: set one of them to False")
        self.space, self.squash, self.use_sde = space, squash, use_sde
        self.event_shape, self.encoded = space.shape, int(np.prod(space.shape))
        self.bounded = space.is_bounded()
        self.linear = orthogonal(nn.Linear(features, self.encoded), 0.01)
        rows = (features, self.encoded) if use_sde else (self.encoded,)
        self.log_std = nn.Parameter(torch.full(rows, log_std_init))
        self.register_buffer("low", torch.as_tensor(space.low.reshape(-1)).float(), False)
        self.register_buffer("high", torch.as_tensor(space.high.reshape(-1)).float(), False)
        if len(self.event_shape) != 1:
            raise UsageError(f"Box actions must be one-dimensional, but the space is {space}")

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a Gaussian over `[..., A]`."""
        _no_mask(mask, self.space)
        mean = self.linear.forward(x)
        if self.use_sde:
            # The features learn from the mean alone, as in the paper's reference settings.
            return StateDependentGaussian(mean, x.detach(), self.log_std)
        return (SquashedGaussian if self.squash else DiagonalGaussian)(mean, self.log_std)

    def encode(self, action: Tensor) -> Tensor:
        """The action as the environment got it, scaled to [-1, 1] where it is bounded."""
        if self.squash:
            return torch.tanh(action)
        if self.bounded:
            clipped = torch.clamp(action, self.low, self.high)
            return (clipped - self.low) / (self.high - self.low) * 2 - 1
        return action

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Squashed and scaled, or clipped to the bounds."""
        if self.squash:
            action = self.low + (torch.tanh(action) + 1) * 0.5 * (self.high - self.low)
        values: NDArray[Any] = torch.clamp(action, self.low, self.high).cpu().numpy()
        return values.astype(self.space.dtype, copy=False)

    def draw_exploration(self, batch_size: int, generator: torch.Generator) -> Tensor | None:
        """`[B, F, A]` gSDE noise, or None."""
        return draw_exploration(self.log_std, batch_size, generator) if self.use_sde else None

    def sample(
        self, dist: Distribution, exploration: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """A policy action from `dist`; under gSDE, the mean moved by the shared noise."""
        if exploration is not None and isinstance(dist, StateDependentGaussian):
            return dist.perturb(exploration)
        return dist.sample(generator)


def make_head(
    features: int,
    space: gym.Space[Any],
    *,
    squash: bool = False,
    use_sde: bool = False,
    log_std_init: float = 0.0,
) -> ActionHead:
    """The head for an action space.

    Raises:
        UsageError: the space has no head, or an option does not fit it; the line names both.
    """
    spaces = gym.spaces
    if isinstance(space, spaces.Box):
        return BoxHead(features, space, squash=squash, use_sde=use_sde, log_std_init=log_std_init)
    for option, on in (("squash", squash), ("use_sde", use_sde)):
        if on:
            raise UsageError(f"{option} needs Box actions, but the action space is {space}")
    if isinstance(space, spaces.Discrete):
        return DiscreteHead(features, space)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return MultiDiscreteHead(features, space)
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return BinaryHead(features, space)
    raise UsageError(
        f"no policy for the action space {space} "
        "(expected a one-dimensional Box, Discrete, MultiDiscrete or MultiBinary)"
    )
