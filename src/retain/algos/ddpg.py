"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971), any memory.

y = r + gamma Q'(s', mu'(s')),   L_critic = (Q(s, a) - y)^2 / 2,   L_actor = -Q(s, mu(s))

The critic's loss owns the critic's torso; see `off_policy` for what the actor reads.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor

from retain.algos.off_policy import Batch, OffPolicyConfig, OffPolicyUpdate
from retain.errors import UsageError
from retain.nn.off_policy import DeterministicActor, OffPolicyNets
from retain.ops import masked_mean


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(OffPolicyConfig):
    """Everything DDPG reads."""

    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions in [-1, 1]."""
    exploration_noise_final: float | None = None
    """What it falls to, linearly, at the run's end; None keeps it."""

    def __post_init__(self) -> None:
        """Refuses values that cannot mean anything."""
        super().__post_init__()
        for name in ("exploration_noise", "exploration_noise_final"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{name} is {value} (expected 0 or more)")


class DDPGUpdate(OffPolicyUpdate):
    """One critic, its target, and the actor that climbs it."""

    reads_after = False
    config: DDPGConfig

    @staticmethod
    def networks(
        observation_space: gym.Space[Any], action_space: gym.Space[Any], config: DDPGConfig
    ) -> OffPolicyNets:
        """One critic; targets of both."""
        return deterministic_networks(observation_space, action_space, config, critics=1)

    def scale(self, progress: float) -> float:
        """The noise's standard deviation."""
        first, last = self.config.exploration_noise, self.config.exploration_noise_final
        return first if last is None else first + (last - first) * progress

    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """Q'(s', mu'(s'))."""
        action = self.next_action(after if actor_after is None else actor_after)
        value: Tensor = self.nets.target_critic.forward(after, action).amin(0)
        return value

    def next_action(self, features: Tensor) -> Tensor:
        """mu'(s')."""
        assert self.nets.target_actor is not None
        action: Tensor = self.nets.target_actor.forward(features)
        return action

    def actor_loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-Q(s, mu(s)); no gradient of it reaches the critic."""
        assert self.nets.actor is not None
        action = self.nets.actor.forward(features)
        value = self.nets.critic.forward(batch.features.detach(), action, frozen=True)[0]
        return -masked_mean(value, batch.mask), {}


def deterministic_networks(
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    config: OffPolicyConfig,
    critics: int,
) -> OffPolicyNets:
    """A deterministic actor and its critics, all with targets.

    Raises:
        UsageError: the actions are no Box.
    """
    if not isinstance(action_space, gym.spaces.Box):
        raise UsageError(
            f"a deterministic policy needs Box actions, but the action space is {action_space}; "
            "for Discrete ones there are dqn, sac and ppo"
        )
    return OffPolicyNets(
        observation_space, action_space, config, actor=DeterministicActor, critics=critics,
        target_actor=True, own_torso=config.memory_owner == "separate",
    )  # fmt: skip
