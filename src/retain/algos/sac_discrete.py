"""Soft actor-critic for Discrete actions (Christodoulou 2019, arXiv:1910.07207).

SAC with its expectations over actions written out instead of sampled.
"""

import gymnasium as gym
from torch import Tensor

from retain.algos.off_policy import Batch
from retain.algos.sac import SACUpdate
from retain.nn.distributions import Categorical
from retain.nn.q_networks import CategoricalActor
from retain.ops import masked_mean


class DiscreteSACUpdate(SACUpdate):
    """Two critics that give every action's value, and a categorical actor."""

    action_space = gym.spaces.Discrete
    actor = CategoricalActor

    def predicted(self, batch: Batch) -> Tensor:
        """`[2, length, N]` values of the actions that were done."""
        values = self.nets.critic.forward(batch.features)
        index = batch.action.unsqueeze(-1).expand(len(values), *batch.action.shape, 1)
        return values.gather(-1, index).squeeze(-1)

    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """sum_a pi(a|s') (min Q'(s', a) - alpha log pi(a|s'))."""
        log_probs = self._choices(batch.features_after if actor_after is None else actor_after)
        value = self.nets.target_critic.forward(after).amin(0)
        soft: Tensor = (log_probs.exp() * (value - self.alpha * log_probs)).sum(-1)
        return soft

    def actor_loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """sum_a pi(a|s) (alpha log pi(a|s) - min Q(s, a))."""
        log_probs = self._choices(features)
        value = self.nets.critic.forward(batch.features.detach(), frozen=True).amin(0).detach()
        probs = log_probs.exp()
        self._entropy = -masked_mean((probs * log_probs).sum(-1), batch.mask).detach()
        loss = (probs * (self.alpha * log_probs - value)).sum(-1)
        return masked_mean(loss, batch.mask), {"entropy": self._entropy}

    def _choices(self, features: Tensor) -> Tensor:
        """`[..., n]` log-probabilities."""
        assert self.nets.actor is not None
        dist: Categorical = self.nets.actor.forward(features)
        return dist.log_probs
