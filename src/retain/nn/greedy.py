"""A policy that is its action values: epsilon-greedy, behind the forward of an actor-critic."""

from itertools import pairwise
from typing import Any

import gymnasium as gym
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.actions import DiscreteActions
from retain.nn.distributions import Categorical
from retain.nn.encoders import allowed_actions
from retain.nn.heads import ActionHead
from retain.nn.lookup import find_submodules_directly
from retain.nn.normaliser import ObsNormaliser
from retain.nn.stacked import activation_function
from retain.nn.torso import NetworkConfig, Torso, previous_inputs
from retain.types import Carry, Obs

LEAST = 1e-6
"""What the greedy action is more probable by at epsilon 1, so that it stays the mode."""


def epsilon_greedy(value: Tensor, epsilon: Tensor, mask: Tensor | None) -> Categorical:
    """The highest value with probability 1 - epsilon, else any allowed action.

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

    event_shape = ()
    dtype = torch.int64
    epsilon: Tensor
    """Probability of a random action; the algorithm's schedule sets it."""

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.actions = DiscreteActions(space)
        self.encoded = self.actions.encoded
        self.register_buffer("epsilon", torch.ones(()))

    def forward(self, x: Tensor, mask: Tensor | None) -> Categorical:
        """`[..., n]` values to a distribution."""
        return epsilon_greedy(x.detach(), self.epsilon, mask)

    def encode(self, action: Tensor) -> Tensor:
        """One-hot."""
        return self.actions.encode(action)

    def to_env(self, action: Tensor) -> NDArray[Any]:
        """Counted from the space's `start`."""
        return self.actions.to_env(action)


class NormedMLP(nn.Sequential):
    """Linear layers, each followed by layer normalisation and an activation, and a last one."""

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
        """Elementwise."""
        out: Tensor = self.function(x)
        return out


class GreedyPolicy(nn.Module):
    """Action values over one timeline, and the policy that is greedy in them.

    Its forward is an actor-critic's: a distribution, the value of the best action, the carry.
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
        self.torsos = nn.ModuleList([Torso(observation_space, self.head.encoded, config)])
        width: int = self.torsos[0].features  # type: ignore[assignment]
        self.values = NormedMLP([width, *config.hidden], config.activation, self.head.encoded)
        self.normaliser = ObsNormaliser(observation_space) if config.normalise_obs else None
        find_submodules_directly(self)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one policy action."""
        return self.head.event_shape

    @property
    def action_dtype(self) -> torch.dtype:
        """Dtype of policy actions."""
        return self.head.dtype

    @property
    def recurrent(self) -> bool:
        """Whether more than the current step can influence an output."""
        return self.config.memory != "none"

    def initial_carry(self, batch_size: int) -> Carry:
        """The carry before an episode's first observation; leaves `[batch_size, ...]`."""
        return tuple(
            torso.memory.initial_carry(batch_size)  # type: ignore[union-attr, operator]
            for torso in self.torsos
        )

    def prepare(self, obs: Obs) -> Obs:
        """Raw observations as the networks read them; the statistics stay as they are."""
        if self.normaliser is None:
            return obs
        out: Obs = self.normaliser(obs)
        return out

    def action_values(
        self,
        obs: Obs,
        carry: Carry,
        reset: Tensor,
        previous_action: Tensor | None = None,
        previous_reward: Tensor | None = None,
    ) -> tuple[Tensor, Carry]:
        """`[T, B, n]` values of all actions, the forbidden ones too, and the carry after the last
        step; arguments as `ActorCritic.forward`'s."""
        previous: list[Tensor] = []
        if self.config.reads_action or self.config.reads_reward:
            previous = previous_inputs(
                self.config, self.head.encode, previous_action, previous_reward, reset
            )
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
    ) -> tuple[Categorical, Tensor, Carry]:
        """As `ActorCritic.forward`: a distribution, `[T, B]` the best action's value, the carry."""
        value, after = self.action_values(obs, carry, reset, previous_action, previous_reward)
        return self.head.forward(value, allowed_actions(obs)), self.best(value, obs), after
