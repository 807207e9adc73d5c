"""Soft actor-critic for Discrete actions (Christodoulou 2019, arXiv:1910.07207).

This is SAC with expectations over actions computed exactly instead of sampled.
"""

import gymnasium as gym
from torch import Tensor

from retain.algos.pieces import Batch
from retain.algos.sac import SACUpdate
from retain.nn.distributions import Categorical
from retain.nn.q_networks import ENTROPY_SHARE, CategoricalActor
from retain.ops import masked_mean


class DiscreteSACUpdate(SACUpdate):
    """Two critics that give every action's value, and a categorical actor."""

    action_space = gym.spaces.Discrete
    actor = CategoricalActor

    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """sum_a pi(a|s') (min Q'(s', a) - alpha log pi(a|s')), over the actions that s' allows."""
        features = batch.features_after if actor_after is None else actor_after
        probs, log_probs = self._choices(features, batch.allowed_after)
        value = self.nets.target_critic.forward(after).amin(0)
        soft: Tensor = (probs * (value - self.alpha * log_probs)).sum(-1)
        return soft

    def actor_loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """sum_a pi(a|s) (alpha log pi(a|s) - min Q(s, a)), over the actions that s allows."""
        probs, log_probs = self._choices(features, batch.allowed)
        value = self.nets.critic.forward(batch.features.detach(), frozen=True).amin(0).detach()
        loss = (probs * (self.alpha * log_probs - value)).sum(-1)
        entropy = -masked_mean((probs * log_probs).sum(-1), batch.mask).detach()
        return masked_mean(loss, batch.mask), {"entropy": entropy}

    def goal(self, batch: Batch) -> Tensor | float:
        """The target entropy, adapted to the allowed actions where some are not allowed."""
        if batch.allowed is None or self.config.target_entropy is not None:
            return self.target_entropy
        return ENTROPY_SHARE * masked_mean(batch.allowed.sum(-1).float().log(), batch.mask)

    def _choices(self, features: Tensor, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """`[..., n]` probabilities and their logarithms, both 0 for actions that are not
        allowed."""
        assert self.nets.actor is not None
        dist: Categorical = self.nets.actor.forward(features, allowed)
        probs = dist.log_probs.exp()
        return probs, dist.finite_log_probs
