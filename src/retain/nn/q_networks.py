"""Actors and critics that learn from a replay, and the memory that they share.

The critic's torso (encoder and memory) belongs to the critic's loss. The actor reads the same
features without gradient, or has its own torso that belongs to its own loss. Target networks are
copies of everything that a value depends on, including the memory.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.actions import ActionCoder, DiscreteActions, ExploringCoder, action_coder
from retain.nn.distributions import Categorical, SquashedGaussian
from retain.nn.encoders import ACTION_MASK, allowed_actions
from retain.nn.lookup import find_submodules_directly
from retain.nn.noise import Source, standard_normal, uniform
from retain.nn.normaliser import ObsNormaliser, SteadyRewards
from retain.nn.policy import Policy
from retain.nn.stacked import StackedMLP
from retain.nn.torso import NetworkConfig, Torso
from retain.ops.mlp import tanh
from retain.types import Carry, Obs

LOG_STD = (-20.0, 2.0)
"""Bounds of a Gaussian actor's log standard deviation (Haarnoja et al. 2018)."""

ENTROPY_SHARE = 0.89
"""Share of the largest entropy of n choices that SAC holds."""


class Critic(nn.Module):
    """K action values over the features of one torso.

    Args:
        count: K, number of critics.
        actions: number of Discrete actions; all their values are computed at once.
        action_width: width of Box actions, which are inputs beside the features.
        dueling: a state value plus advantages (Wang et al. 2016, arXiv:1511.06581).
        quantiles: M, number of quantiles of each return instead of its mean; 0 gives the mean.
    """

    def __init__(
        self,
        torso: Torso,
        config: NetworkConfig,
        *,
        count: int,
        actions: int = 0,
        action_width: int = 0,
        dueling: bool = False,
        quantiles: int = 0,
    ) -> None:
        super().__init__()
        self.torso, self.count, self.dueling, self.quantiles = torso, count, dueling, quantiles
        self.net = StackedMLP(
            count, torso.features + action_width, config.hidden, config.activation,
            out=(max(actions, 1) + dueling) * max(quantiles, 1), init="uniform",
            kernels=config.kernels,
        )  # fmt: skip
        self.discrete = actions > 0

    def forward(
        self,
        features: Tensor,
        action: Tensor | None = None,
        *,
        frozen: bool = False,
        count: int | None = None,
    ) -> Tensor:
        """Values `[K, ...]` of features `[..., F]` and Box actions `[..., A]`, or values `[K, ...,
        n]` of all Discrete actions. Quantiles add a dimension M: `[K, ..., M]`, or `[K, ..., M,
        n]`.

        Args:
            frozen: let the gradient pass through to the action, but reach no parameter.
            count: compute only that many of the critics, the first ones.
        """
        beside = [] if self.discrete or action is None else [action]
        x = torch.cat([features, *beside], dim=-1) if beside else features
        out = self.net.forward(x, frozen=frozen, count=count)
        if self.quantiles:
            out = out.view(*out.shape[:-1], self.quantiles, -1)
        if not self.discrete:
            return out.squeeze(-1)
        if self.dueling:
            value, advantage = out[..., :1], out[..., 1:]
            return value + advantage - advantage.mean(-1, keepdim=True)
        return out

    def pick(self, out: Tensor, action: Tensor) -> Tensor:
        """The part of `forward`'s output for the actions `[...]`: `[K, ...]`, or `[K, ..., M]`."""
        if not self.discrete:
            return out
        index = action.unsqueeze(-1).unsqueeze(-1) if self.quantiles else action.unsqueeze(-1)
        return out.gather(-1, index.expand(*out.shape[:-1], 1)).squeeze(-1)

    def mean(self, out: Tensor) -> Tensor:
        """Expected returns from `forward`'s output: `[K, ..., n]` for Discrete actions."""
        return out.mean(-2) if self.quantiles else out


def only(value: Tensor, allowed: Tensor | None) -> Tensor:
    """`[..., n]` values, -inf where an action is not allowed."""
    return value if allowed is None else value.masked_fill(~allowed, -torch.inf)


class Actor(nn.Module, ABC):
    """A policy over features; `torso` is its own, or None if it reads the critic's."""

    def __init__(self, torso: Torso | None, features: int, config: NetworkConfig, out: int) -> None:
        super().__init__()
        self.torso = torso
        self.net = StackedMLP(
            1, features, config.hidden, config.activation, out=out, init="uniform",
            kernels=config.kernels,
        )  # fmt: skip

    @abstractmethod
    def act(
        self, features: Tensor, scale: float, source: Source, allowed: Tensor | None = None
    ) -> Tensor:
        """`[..., A]` stored actions for exploration; a `scale` of 0 gives the deterministic choice.

        Args:
            allowed: `[..., n]` bool, the allowed Discrete actions; None allows all.
        """


class DeterministicActor(Actor):
    """The tanh of an MLP, in [-1, 1]."""

    def forward(self, features: Tensor) -> Tensor:
        """`[..., F] -> [..., A]`."""
        return tanh(self.net.forward(features)[0])

    def act(
        self, features: Tensor, scale: float, source: Source, allowed: Tensor | None = None
    ) -> Tensor:
        """Actions with Gaussian noise of standard deviation `scale`, clipped to the bounds."""
        action = self.forward(features)
        if scale == 0:
            return action
        noise = standard_normal(action, source)
        return torch.add(action, noise, alpha=scale).clamp_(-1, 1)


class GaussianActor(Actor):
    """A tanh-squashed Gaussian with a mean and a spread that depend on the state."""

    def forward(self, features: Tensor) -> SquashedGaussian:
        """`[..., F]` to a distribution over pre-tanh actions `[..., A]`."""
        mean, log_std = self.net.forward(features)[0].chunk(2, -1)
        return SquashedGaussian(mean, log_std.clamp(*LOG_STD))

    def act(
        self, features: Tensor, scale: float, source: Source, allowed: Tensor | None = None
    ) -> Tensor:
        """A sample, or the tanh of the mean."""
        dist = self.forward(features)
        return torch.tanh(dist.mode() if scale == 0 else dist.sample(source))


class CategoricalActor(Actor):
    """Probabilities of Discrete actions."""

    def forward(self, features: Tensor, allowed: Tensor | None = None) -> Categorical:
        """`[..., F]` and the allowed actions `[..., n]` to a distribution."""
        return Categorical(self.net.forward(features)[0], allowed)

    def act(
        self, features: Tensor, scale: float, source: Source, allowed: Tensor | None = None
    ) -> Tensor:
        """A sample, or the most probable action."""
        dist = self.forward(features, allowed)
        return dist.mode() if scale == 0 else dist.sample(source)


class OffPolicyNets(Policy):
    """Actor, critics, their memories and the target networks.

    Args:
        actor: the actor's class; None acts greedily on the critic's values (DQN).
        critics: K, number of critics.
        target_actor: whether the target networks include a copy of the actor.
        own_torso: give the actor its own encoder and memory.
        dueling: split a Discrete critic into a state value and advantages.
        quantiles: number of quantiles per critic; 0 for means.
        steady: normalise observations by `SteadyStats`.
        sized_rewards: divide rewards by their size, where these networks read or learn from them.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: NetworkConfig,
        *,
        actor: type[Actor] | None,
        critics: int,
        target_actor: bool,
        own_torso: bool,
        dueling: bool = False,
        quantiles: int = 0,
        steady: bool = False,
        sized_rewards: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.coder: ExploringCoder = action_coder(action_space)
        discrete = isinstance(self.coder, DiscreteActions)
        parts = observation_space.spaces if isinstance(observation_space, gym.spaces.Dict) else {}
        if ACTION_MASK in parts and not discrete:
            raise UsageError(f"an action mask cannot apply to the action space {action_space}")
        width = self.coder.encoded

        def torso() -> Torso:
            return Torso(observation_space, width, config)

        self.critic = Critic(
            torso(), config, count=critics, dueling=dueling, quantiles=quantiles,
            actions=width if discrete else 0, action_width=0 if discrete else width,
        )  # fmt: skip
        self.actor: Actor | None = None
        if actor is not None:
            own = torso() if own_torso else None
            out = 2 * width if actor is GaussianActor else width
            self.actor = actor(own, self.critic.torso.features, config, out)
        self.target_critic = _frozen_copy(self.critic)
        self.target_actor = _frozen_copy(self.actor) if target_actor else None
        self.normaliser = (
            ObsNormaliser(observation_space, steady=steady) if config.normalise_obs else None
        )
        self.rewards = SteadyRewards() if sized_rewards else None
        find_submodules_directly(self)

    @property
    def torsos(self) -> Sequence[Torso]:  # type: ignore[override]
        """The critic's torso, then the actor's if it has its own; the carry has the same order."""
        own = self.actor.torso if self.actor is not None else None
        return [self.critic.torso] if own is None else [self.critic.torso, own]

    @property
    def acting(self) -> int:
        """See `Policy.acting`: the actor's own torso, or the critic's."""
        return len(self.torsos) - 1

    def sized(self, reward: Tensor) -> Tensor:
        """Rewards as they are learned from."""
        return reward if self.rewards is None else self.rewards.forward(reward)

    def previous(self, action: Tensor | None, reward: Tensor | None, reset: Tensor) -> list[Tensor]:
        """See `Policy.previous`."""
        return super().previous(action, None if reward is None else self.sized(reward), reset)

    def act(
        self,
        obs: Obs,
        carry: Carry,
        reset: Tensor,
        previous_action: Tensor | None,
        previous_reward: Tensor | None,
        *,
        scale: float,
        source: Source,
    ) -> tuple[Tensor, Carry]:
        """See `Policy.act`."""
        previous = self.previous(previous_action, previous_reward, reset)
        *others, acting = self.torsos
        *before, mine = carry
        features, after = acting.forward(obs, previous, mine, reset)
        rest = [
            torso.absorb(obs, previous, one, reset)
            for torso, one in zip(others, before, strict=True)
        ]
        allowed = allowed_actions(obs)
        if self.actor is not None:
            action = self.actor.act(features, scale, source, allowed)[0]
        else:
            value = self.critic.mean(self.critic.forward(features))[0]
            action = only(value, allowed).argmax(-1)[0]
            if scale > 0:
                dice = uniform(action.shape, source, action.device)
                random = self.random(obs, source)
                action = torch.where(dice < scale, random, action)
        return action, (*rest, after)

    def random(self, obs: Obs, source: Source) -> Tensor:
        """`[B, ...]` uniform actions that the observations `[1, B, ...]` allow."""
        allowed = allowed_actions(obs)
        rows = next(iter(obs.values())) if isinstance(obs, dict) else obs
        return self.coder.random(rows.shape[1], source, None if allowed is None else allowed[0])


def _frozen_copy(module: nn.Module | None) -> Any:
    copied = copy.deepcopy(module)
    return None if copied is None else copied.requires_grad_(False)


def entropy_target(coder: ActionCoder) -> float:
    """SAC's usual target entropy: minus the number of Box dimensions, or 0.89 log n for n
    choices."""
    if isinstance(coder, DiscreteActions):
        return ENTROPY_SHARE * math.log(coder.encoded)
    return -float(np.prod(coder.event_shape))
