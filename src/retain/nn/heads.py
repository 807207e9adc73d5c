"""Turns features into a distribution over the actions of one space."""

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.actions import (
    ActionCoder,
    BinaryActions,
    ClippedActions,
    DiscreteActions,
    MultiDiscreteActions,
    SquashedActions,
    UnitActions,
)
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

    coder: ActionCoder
    """The coder of the head's actions."""

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` and an optional mask of allowed actions to a distribution."""

    def draw_exploration(self, batch_size: int, generator: torch.Generator) -> Tensor | None:
        """Noise that several steps share, if the distribution has any (gSDE); otherwise None."""
        return None

    def sample(
        self, dist: Distribution, exploration: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """A policy action from `dist`, with the shared noise if there is any."""
        return dist.sample(generator)


def _no_mask(mask: Tensor | None, space: gym.Space[Any]) -> None:
    if mask is not None:
        raise UsageError(f"an action mask cannot apply to the action space {space}")


class DiscreteHead(ActionHead):
    """Categorical over a Discrete space."""

    def __init__(self, features: int, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.coder = DiscreteActions(space)
        self.linear = orthogonal(nn.Linear(features, self.coder.encoded), 0.01)

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a Categorical."""
        return Categorical(self.linear.forward(x), mask)


class MultiDiscreteHead(ActionHead):
    """Independent Categoricals over a one-dimensional MultiDiscrete space."""

    coder: MultiDiscreteActions

    def __init__(self, features: int, space: gym.spaces.MultiDiscrete) -> None:
        super().__init__()
        self.coder = MultiDiscreteActions(space)
        self.linear = orthogonal(nn.Linear(features, self.coder.encoded), 0.01)

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a MultiCategorical."""
        return MultiCategorical(self.linear.forward(x), self.coder.sizes, mask)


class BinaryHead(ActionHead):
    """Independent Bernoullis over a one-dimensional MultiBinary space."""

    def __init__(self, features: int, space: gym.spaces.MultiBinary) -> None:
        super().__init__()
        self.space, self.coder = space, BinaryActions(space)
        self.linear = orthogonal(nn.Linear(features, self.coder.encoded), 0.01)

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a Bernoulli."""
        _no_mask(mask, self.space)
        return Bernoulli(self.linear.forward(x))


class BoxHead(ActionHead):
    """Gaussian over a Box: diagonal, squashed by tanh, or with state-dependent exploration.

    Args:
        squash: scale the tanh of the Gaussian to the bounds, instead of clipping to them.
        use_sde: use generalised state-dependent exploration (Raffin et al. 2021, arXiv:2005.05719).
        log_std_init: initial logarithm of the standard deviation.
        unit: map the Gaussian's [-1, 1] onto the whole Box, so that its spread means the same for
            every action; without bounds this changes nothing.
    Raises:
        UsageError: `squash` is used on a Box without finite bounds, or with `use_sde`.
    """

    def __init__(
        self,
        features: int,
        space: gym.spaces.Box,
        *,
        squash: bool,
        use_sde: bool,
        log_std_init: float,
        unit: bool = False,
    ) -> None:
        super().__init__()
        if squash and use_sde:
            raise UsageError("squash and use_sde exclude each other: set one of them to False")
        kind = SquashedActions if squash else UnitActions if unit else ClippedActions
        self.coder = kind(space)
        self.space, self.squash, self.use_sde = space, squash, use_sde
        width = self.coder.encoded
        self.linear = orthogonal(nn.Linear(features, width), 0.01)
        self.log_std = nn.Parameter(
            torch.full((features, width) if use_sde else (width,), log_std_init)
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Distribution:
        """`[..., F]` to a Gaussian over `[..., A]`."""
        _no_mask(mask, self.space)
        mean = self.linear.forward(x)
        if self.use_sde:
            # The features learn from the mean alone, as in the paper's reference settings.
            return StateDependentGaussian(mean, x.detach(), self.log_std)
        return (SquashedGaussian if self.squash else DiagonalGaussian)(mean, self.log_std)

    def draw_exploration(self, batch_size: int, generator: torch.Generator) -> Tensor | None:
        """`[B, F, A]` gSDE noise, or None."""
        return draw_exploration(self.log_std, batch_size, generator) if self.use_sde else None

    def sample(
        self, dist: Distribution, exploration: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """A policy action from `dist`; under gSDE, the mean shifted by the shared noise."""
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
    unit: bool = False,
) -> ActionHead:
    """The head for an action space.

    Raises:
        UsageError: the space has no head, or an option does not fit it; the line names both.
    """
    spaces = gym.spaces
    if isinstance(space, spaces.Box):
        return BoxHead(
            features, space, squash=squash, use_sde=use_sde, log_std_init=log_std_init, unit=unit
        )
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
