"""Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477), any memory.

Three changes to DDPG: the smaller of two critics, noise on the target's action, and an actor that
moves every other update.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from retain.algos.ddpg import DDPGConfig, DDPGUpdate, deterministic_networks
from retain.errors import UsageError
from retain.nn.off_policy import OffPolicyNets


@dataclass(frozen=True, kw_only=True)
class TD3Config(DDPGConfig):
    """Everything TD3 reads."""

    policy_delay: int = 2
    """Critic updates for each of the actor's."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target's action."""
    target_noise_clip: float = 0.5
    """Largest noise on the target's action."""

    def __post_init__(self) -> None:
        """Refuses values that cannot mean anything."""
        super().__post_init__()
        if self.policy_delay < 1:
            raise UsageError(f"policy_delay is {self.policy_delay} (expected at least 1)")
        for name in ("target_noise", "target_noise_clip"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)} (expected 0 or more)")


class TD3Update(DDPGUpdate):
    """DDPG with two critics, a smoothed target and a slower actor."""

    config: TD3Config

    @staticmethod
    def networks(
        observation_space: gym.Space[Any], action_space: gym.Space[Any], config: DDPGConfig
    ) -> OffPolicyNets:
        """Two critics; targets of all."""
        return deterministic_networks(observation_space, action_space, config, critics=2)

    def next_action(self, features: Tensor) -> Tensor:
        """mu'(s') + clip(noise)."""
        action = super().next_action(features)
        spread, clip = self.config.target_noise, self.config.target_noise_clip
        noise = torch.empty_like(action).normal_(0, spread, generator=self.generator)
        return (action + noise.clamp_(-clip, clip)).clamp_(-1, 1)

    def actor_due(self) -> bool:
        """Every `policy_delay`-th update."""
        return self.gradient_steps % self.config.policy_delay == 0
