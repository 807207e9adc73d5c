"""Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477), any memory.

TD3 changes three things in DDPG: it takes the smaller of two critics, adds noise to the target's
action, and updates the actor only every other time.
"""

from dataclasses import dataclass

from torch import Tensor

from retain.algos.ddpg import DDPGConfig, DDPGUpdate
from retain.errors import check_range
from retain.nn.noise import standard_normal
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class TD3Config(DDPGConfig):
    """Settings of TD3."""

    policy_delay: int = 2
    """Critic updates per actor update."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target's action."""
    target_noise_clip: float = setting(0.5, needs="target_noise")
    """Largest noise on the target's action, in absolute value."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "policy_delay", low=1)
        check_range(self, "target_noise", "target_noise_clip", low=0)


class TD3Update(DDPGUpdate):
    """DDPG with two critics, a smoothed target and a slower actor."""

    critics = 2
    config: TD3Config

    def next_action(self, features: Tensor) -> Tensor:
        """mu'(s') + clip(noise)."""
        action = super().next_action(features)
        spread, clip = self.config.target_noise, self.config.target_noise_clip
        noise = (spread * standard_normal(action, self.source)).clamp(-clip, clip)
        return (action + noise).clamp(-1, 1)

    def actor_due(self) -> bool:
        """True at every `policy_delay`-th update."""
        return self.gradient_steps % self.config.policy_delay == 0
