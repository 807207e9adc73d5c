"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), any memory, tuned entropy.

y = r + gamma (min_k Q'_k(s', a') - alpha log pi(a'|s')),   a' ~ pi(s')
L_actor = alpha log pi(a|s) - min_k Q_k(s, a),   a ~ pi(s) reparameterised
L_alpha = -log alpha (log pi(a|s) + target entropy)

This file is for Box actions; `sac_discrete` computes the same expectations over Discrete actions
exactly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from retain.algos.off_policy import OffPolicyUpdate, Rates
from retain.algos.off_policy_config import OffPolicyConfig
from retain.algos.pieces import Batch
from retain.errors import check_range
from retain.nn.distributions import SquashedGaussian
from retain.nn.q_networks import Actor, GaussianActor, OffPolicyNets, entropy_target
from retain.ops import masked_mean
from retain.ranges import Log
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class SACConfig(OffPolicyConfig):
    """Settings of SAC."""

    alpha: float | None = None
    """Fixed weight of the entropy; None tunes the weight to reach the target entropy."""
    alpha_init: float = setting(1.0, needs="tuned_alpha", search=Log(0.05, 1.0))
    """Initial weight of the entropy, if tuned."""
    target_entropy: float | None = setting(None, needs="tuned_alpha")
    """Target entropy in nats; None takes minus the Box's dimensions, or 0.89 log n for n
    choices."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "alpha", low=0)
        check_range(self, "alpha_init", low=0, above=True)

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return super().probing() | {"alpha": 0.01}


class Temperature(nn.Module):
    """log alpha, the logarithm of the entropy's weight."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(math.log(initial)))


class SACUpdate(OffPolicyUpdate):
    """Two critics, a stochastic actor, and the weight of the entropy."""

    METRICS = (*OffPolicyUpdate.METRICS, "entropy", "alpha")
    actor: ClassVar[type[Actor] | None] = GaussianActor
    critics = 2
    others = "sac has a separate form for Discrete actions; use ppo for the rest"
    config: SACConfig

    def __init__(self, config: SACConfig, nets: OffPolicyNets, *, seed: int) -> None:
        super().__init__(config, nets, seed=seed)
        # A target samples the online actor, which reads these unless its torso is its own.
        self.reads_after = config.memory_owner == "critic"
        chosen = config.target_entropy
        self.target_entropy = entropy_target(nets.coder) if chosen is None else chosen
        # With the networks, so that it is saved with the model.
        nets.temperature = Temperature(config.alpha_init).to(self.broken.device)
        self.temperature = nets.temperature
        self.temperature.requires_grad_(config.alpha is None)
        if config.alpha is None:
            self._own("alpha", self.temperature, config.learning_rate)

    def scale(self, progress: float) -> float:
        """Always 1: acting samples the policy itself."""
        return 1.0

    @property
    def alpha(self) -> Tensor:
        """The weight of the entropy, a scalar without gradient."""
        if self.config.alpha is not None:
            return torch.tensor(self.config.alpha, device=self.broken.device)
        return self.temperature.log_alpha.detach().exp()

    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """min Q'(s', a') - alpha log pi(a'|s')."""
        dist = self.policy(batch.features_after if actor_after is None else actor_after)
        action = dist.sample(self.source)
        value = self.nets.target_critic.forward(after, torch.tanh(action)).amin(0)
        soft: Tensor = value - self.alpha * dist.log_prob(action)
        return soft

    def actor_loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """alpha log pi - min Q; its gradient does not reach the critics."""
        dist = self.policy(features)
        action = dist.reparameterised(self.source)
        log_prob = dist.log_prob(action)
        critic = self.nets.critic
        features = batch.features.detach()
        value = self.estimate(critic.forward(features, torch.tanh(action), frozen=True))
        loss = masked_mean(self.alpha * log_prob - value, batch.mask)
        return loss, {"entropy": -masked_mean(log_prob, batch.mask).detach()}

    def policy(self, features: Tensor) -> SquashedGaussian:
        """The online actor's distribution."""
        assert self.nets.actor is not None
        dist: SquashedGaussian = self.nets.actor.forward(features)
        return dist

    def goal(self, batch: Batch) -> Tensor | float:
        """The entropy that alpha holds the policy at."""
        return self.target_entropy

    def after_update(
        self, batch: Batch, terms: Mapping[str, Tensor], rates: Rates
    ) -> dict[str, Tensor]:
        """Moves alpha towards the target entropy."""
        used = self.alpha
        if self.config.alpha is None:
            loss = self.temperature.log_alpha * (terms["entropy"] - self.goal(batch))
            self.steps["alpha"](loss, rates["alpha"])
        return {"alpha": used}
