"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971), any memory.

y = r + gamma Q'(s', mu'(s')),   L_critic = (Q(s, a) - y)^2 / 2,   L_actor = -Q(s, mu(s))

The critic's loss trains the critic's torso; `off_policy` explains what the actor reads.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from retain.algos.off_policy import OffPolicyUpdate
from retain.algos.off_policy_config import OffPolicyConfig
from retain.algos.pieces import Batch
from retain.errors import check_range
from retain.nn.q_networks import DeterministicActor
from retain.ops import masked_mean
from retain.ranges import Uniform
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(OffPolicyConfig):
    """Settings of DDPG."""

    exploration_noise: float = setting(0.1, search=Uniform(0.05, 0.5))
    """Standard deviation of the noise on actions in [-1, 1]."""
    exploration_noise_final: float | None = None
    """Final standard deviation of the noise, reached linearly at the run's end; None keeps it
    constant."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "exploration_noise", "exploration_noise_final", low=0)

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return super().probing() | {"exploration_noise": 0.3, "exploration_noise_final": None}


class DDPGUpdate(OffPolicyUpdate):
    """One critic, its target network, and the actor that maximises it."""

    actor = DeterministicActor
    critics = 1
    target_actor = True
    others = "for Discrete ones there are dqn, sac and ppo"
    config: DDPGConfig

    def scale(self, progress: float) -> float:
        """The standard deviation of the noise."""
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
        """-Q(s, mu(s)) of the first critic; its gradient does not reach the critic."""
        assert self.nets.actor is not None
        action = self.nets.actor.forward(features)
        features = batch.features.detach()
        value = self.nets.critic.forward(features, action, frozen=True, count=1)[0]
        return -masked_mean(value, batch.mask), {}
