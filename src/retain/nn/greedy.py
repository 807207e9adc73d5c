"""A policy made of action values: epsilon-greedy, with the forward of an actor-critic."""

from itertools import pairwise
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.actions import ActionCoder, DiscreteActions
from retain.nn.distributions import Categorical, Distribution
from retain.nn.encoders import allowed_actions
from retain.nn.heads import ActionHead
from retain.nn.lookup import find_submodules_directly
from retain.nn.noise import Source
from retain.nn.normaliser import ObsNormaliser
from retain.nn.policy import SegmentPolicy
from retain.nn.stacked import activation_function
from retain.nn.torso import NetworkConfig, Torso
from retain.types import Carry, Obs

LEAST = 1e-6
"""The extra probability of the greedy action at epsilon 1, which keeps it the mode."""


def epsilon_greedy(value: Tensor, epsilon: Tensor, mask: Tensor | None) -> Categorical:
    """The highest value with probability 1 - epsilon, otherwise any allowed action.

    Args:
        value: `[..., n]`
        epsilon: scalar.
        mask: `[..., n]` bool, true = allowed.
    """
    if mask is None:
        mask = torch.ones_like(value, dtype=torch.bool)
    best = value.masked_fill(~mask, -torch.inf).argmax(-1, keepdim=True)
    probs = mask * (epsilon / mask.sum(-1, keepdim=True))
    probs.scatter_add_(-1, best, (1 - epsilon).clamp_min(LEAST).expand(best.shape))
    return Categorical(probs.log(), probs > 0)


class GreedyHead(ActionHead):
    """Action values as an epsilon-greedy policy over a Discrete space."""

    epsilon: Tensor
    """Probability of a random action; the algorithm's schedule sets it for each segment."""

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.coder = DiscreteActions(space)
        self.register_buffer("epsilon", torch.ones(()))

    def forward(self, x: Tensor, mask: Tensor | None) -> Categorical:
        """`[..., n]` values to a distribution."""
        return epsilon_greedy(x.detach(), self.epsilon, mask)


class NormedMLP(nn.Sequential):
    """Linear layers, each followed by layer normalisation and an activation, and a final linear
    layer."""

    def __init__(self, widths: list[int], activation: str, out: int) -> None:
        super().__init__()
        function = activation_function(activation)
        for number, (wide_in, wide_out) in enumerate(pairwise(widths)):
            self.add_module(f"linear_{number}", nn.Linear(wide_in, wide_out))
            self.add_module(f"norm_{number}", nn.LayerNorm(wide_out))
            self.add_module(f"activation_{number}", Activation(function))
        self.add_module("out", nn.Linear(widths[-1], out))


class Activation(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function elementwise."""
        out: Tensor = self.function(x)
        return out


class GreedyPolicy(SegmentPolicy):
    """Action values over one timeline, and their greedy policy.

    The forward is an actor-critic's: a distribution, the value of the best action, the carry.
    """

    redraw_every = -1

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        if not isinstance(action_space, gym.spaces.Discrete):
            raise UsageError(
                f"action values need Discrete actions, but the space is {action_space}"
            )
        self.config = config
        self.head = GreedyHead(action_space)
        count = self.head.coder.encoded
        self.torsos = nn.ModuleList(  # type: ignore[assignment]
            [Torso(observation_space, count, config)]
        )
        width: int = self.torsos[0].features
        self.values = NormedMLP([width, *config.hidden], config.activation, count)
        self.normaliser = ObsNormaliser(observation_space) if config.normalise_obs else None
        find_submodules_directly(self)

    @property
    def coder(self) -> ActionCoder:  # type: ignore[override]
        """The action coder, which belongs to the head."""
        return self.head.coder

    def action_values(
        self,
        obs: Obs,
        carry: Carry,
        reset: Tensor,
        previous_action: Tensor | None = None,
        previous_reward: Tensor | None = None,
    ) -> tuple[Tensor, Carry]:
        """`[T, B, n]` values of all actions, including forbidden ones, and the carry after the last
        step; same arguments as `ActorCritic.forward`."""
        previous = self.previous(previous_action, previous_reward, reset)
        features, after = self.torsos[0].forward(obs, previous, carry[0], reset)
        return self.values(features), (after,)

    def best(self, value: Tensor, obs: Obs) -> Tensor:
        """`[T, B]` the highest value of an allowed action."""
        mask = allowed_actions(obs)
        highest: Tensor = (value if mask is None else value.masked_fill(~mask, -torch.inf)).amax(-1)
        return highest

    def forward(
        self,
        obs: Obs,
        carry: Carry,
        reset: Tensor,
        previous_action: Tensor | None = None,
        previous_reward: Tensor | None = None,
    ) -> tuple[Distribution, Tensor, Carry]:
        """See `ActorCritic.forward`: a distribution, the best action's value `[T, B]`, the
        carry."""
        value, after = self.action_values(obs, carry, reset, previous_action, previous_reward)
        return self.head.forward(value, allowed_actions(obs)), self.best(value, obs), after

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
        """See `Policy.act`; `scale` is the probability of a random action."""
        value, after = self.action_values(obs, carry, reset, previous_action, previous_reward)
        dist = epsilon_greedy(value, value.new_tensor(scale), allowed_actions(obs))
        return (dist.mode() if scale == 0 else dist.sample(source))[0], after
