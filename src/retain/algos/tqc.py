"""Truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269), any memory.

Each of K critics gives M quantiles of the return. A target pools all K M of them at (s', a'),
a' ~ pi(s'), and leaves out the d K largest, z_1 <= z_2 <= ... being the rest:

y_j = r + gamma (z_j - alpha log pi(a'|s')),   j = 1 ... K (M - d)
L_critic = sum_k mean_i mean_j |tau_i - 1[u_kij < 0]| l(u_kij),   u_kij = y_j - theta_ki(s, a)
L_actor = alpha log pi(a|s) - mean_k mean_i theta_ki(s, a),   a ~ pi(s) reparameterised

The number of dropped quantiles sets the pessimism, and replaces SAC's smaller of two critics. The
rest is SAC: the critics' loss trains the critics' memory (see `off_policy`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retain.algos.off_policy_config import BUILT
from retain.algos.pieces import Batch
from retain.algos.sac import SACConfig, SACUpdate
from retain.errors import UsageError, check_range
from retain.ops import quantile_huber_loss
from retain.ranges import Uniform
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class TQCConfig(SACConfig):
    """Settings of TQC."""

    critics: int = setting(2, fixed=BUILT)
    """K, the number of critics; the paper uses 5."""
    quantiles: int = setting(25, fixed=BUILT)
    """M, the number of quantiles per critic."""
    drop: int = setting(2, search=Uniform(0, 5))
    """d, the number of largest quantiles that a target drops per critic; more means less
    optimism."""
    huber: float | None = 1.0
    """Huber threshold for the quantile error; None is plain quantile regression."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "critics", "quantiles", low=1)
        check_range(self, "drop", low=0)
        if self.drop >= self.quantiles:
            raise UsageError(
                f"drop is {self.drop}, which leaves none of {self.quantiles} quantiles "
                f"(expected 0 to {self.quantiles - 1})"
            )


class TQCUpdate(SACUpdate):
    """SAC whose critics estimate the distribution of returns."""

    others = "for Discrete ones there are qrdqn, dqn, pqn, sac and ppo"
    config: TQCConfig

    @classmethod
    def count(cls, config: Any) -> int:
        """K, the number of critics."""
        return int(config.critics)

    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """`[length + n - 1, N, K (M - d)]` the remaining pooled quantiles, with the entropy
        term."""
        dist = self.policy(batch.features_after if actor_after is None else actor_after)
        action = dist.sample(self.source)
        quantiles = self.nets.target_critic.forward(after, torch.tanh(action))
        pooled = quantiles.movedim(0, -2).flatten(-2).sort(-1).values
        kept = pooled[..., : len(quantiles) * (self.config.quantiles - self.config.drop)]
        soft: Tensor = kept - self.alpha * dist.log_prob(action).unsqueeze(-1)
        return soft

    def critic_loss(self, batch: Batch, value: Tensor, target: Tensor) -> Tensor:
        """Quantile regression of `[K, length, N, M]` towards `[length, N, K (M - d)]`."""
        loss = quantile_huber_loss(
            value=value,
            target=target,
            weight=batch.sample.weight,
            huber=self.config.huber,
            mask=batch.mask,
        )
        return loss / self.config.quantiles

    def error(self, value: Tensor, target: Tensor) -> Tensor:
        """`[length, N]` error of the means."""
        return super().error(value.mean(-1), target.mean(-1))

    def estimate(self, value: Tensor) -> Tensor:
        """The mean of all critics and quantiles."""
        return value.mean(-1).mean(0)
