"""The common part of A2C, PPO and V-trace: an actor-critic whose loss is a policy gradient, a value
loss and an entropy bonus.

L = L_policy + c_v L_value - c_e H(pi)
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from retain.algos.on_policy import OnPolicyUpdate
from retain.algos.on_policy_config import OnPolicyConfig
from retain.algos.on_policy_losses import Loss
from retain.algos.schedules import check_schedule, scheduled
from retain.data.rollout import Rollout, Sequences
from retain.errors import check_range
from retain.nn.actor_critic import ActorCritic, ActorCriticConfig
from retain.nn.distributions import Distribution
from retain.ops import gae, normalise, ratio_statistics
from retain.ranges import Log, NearOne
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class PolicyGradientConfig(OnPolicyConfig, ActorCriticConfig):
    """The settings that these algorithms share."""

    value_huber: float | None = None
    """Huber threshold for the value error; None uses the plain square."""
    value_coef: float = 0.5
    """Weight of the value loss, which is half the mean square (Stable-Baselines3 has no half)."""
    entropy_coef: float = setting(0.01, search=Log(1e-4, 0.05))
    """Weight of the entropy bonus."""
    entropy_schedule: str = setting("constant", needs="entropy_coef")
    """Schedule of the entropy bonus: constant, linear or cosine to 0, or module:name."""
    gae_lambda: float = setting(0.95, search=NearOne(0.8, 0.99))
    """Lambda of the advantage estimate's trace: 0 = one step, 1 = Monte Carlo."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "gae_lambda", low=0, high=1)
        check_schedule(self.entropy_schedule)
        check_range(self, "value_coef", "entropy_coef", low=0)
        check_range(self, "value_huber", low=0, above=True)

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return super().probing() | {
            "entropy_coef": 0.01, "gae_lambda": 0.95, "value_huber": None, "use_sde": False,
            "log_std_init": 0.0, "value_coef": 0.5,
        }  # fmt: skip

    def short_segments(self) -> dict[str, Any]:
        """See `OnPolicyConfig.short_segments`."""
        return super().short_segments() | {"gae_lambda": 1.0}


class PolicyGradientUpdate(OnPolicyUpdate):
    """An actor-critic's update. Subclasses define the policy loss and the value loss."""

    checks = (*OnPolicyUpdate.checks, "entropy")
    config: PolicyGradientConfig
    policy: ActorCritic

    @classmethod
    def networks(
        cls, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Any
    ) -> ActorCritic:
        """Builds an actor-critic; it has a head for every action space."""
        return ActorCritic(observation_space, action_space, config)

    def targets(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Generalised advantage estimates, and the targets for the values."""
        return gae(
            reward=rollout.reward,
            value=rollout.value,
            next_value=rollout.next_value,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            gamma=self.config.gamma,
            lam=self.config.gae_lambda,
        )

    @abstractmethod
    def parts(
        self, batch: Sequences, log_prob: Tensor, value: Tensor, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The policy loss, the value loss, and further metrics.

        Args:
            log_prob: `[L, N]` log probability of the stored actions now, with gradient.
            value: `[L, N]` current values, with gradient.
        """

    def loss(self, batch: Sequences, progress: float) -> Loss:
        """The whole loss on a minibatch."""
        config = self.config
        dist, value, _ = self.policy(
            batch.obs, batch.carry, batch.reset, batch.previous_action, batch.previous_reward
        )
        log_prob = dist.log_prob(batch.action)
        policy, critic, more = self.parts(batch, log_prob, value, progress)
        bonus = scheduled(config.entropy_coef, config.entropy_schedule, progress)
        entropy = self._entropy(dist, config.entropy_coef > 0)
        total = policy + config.value_coef * critic
        if config.entropy_coef > 0:
            total = total - bonus * entropy
        terms = {"policy_loss": policy, "value_loss": critic, "entropy": entropy, **more}
        return Loss(total, terms, (log_prob - batch.log_prob).detach())

    def normalised(self, batch: Sequences) -> Tensor:
        """`[L, N]` advantages scaled to mean 0 and standard deviation 1 over the minibatch."""
        return normalise(batch.advantage, moments=batch.moments)

    def _entropy(self, dist: Distribution, learned: bool) -> Tensor:
        with torch.set_grad_enabled(learned):
            return dist.entropy(self.source).mean()

    def statistics(self, gap: Tensor, progress: float) -> Mapping[str, float | Tensor]:
        """How far the policy has moved from the one that acted."""
        ratios = ratio_statistics(log_ratio=gap, clip=(1.0, torch.inf))
        return {"approx_kl": ratios.approx_kl, "max_log_ratio": ratios.max_log_ratio}
