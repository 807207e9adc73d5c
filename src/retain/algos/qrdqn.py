"""Quantile-regression DQN (Dabney et al. 2017, arXiv:1710.10044), any memory.

The critic gives M quantiles theta_i of every action's return instead of its mean, at
tau_i = (i + 1/2) / M:

a* = argmax_a mean_i theta'_i(s', a),   y_j = r + gamma theta'_j(s', a*)
L = sum_i mean_j |tau_i - 1[u_ij < 0]| l(u_ij),   u_ij = y_j - theta_i(s, a)

The rest is DQN: acting, the replay, the target network, and priorities by the error of the mean.
The single loss trains every parameter, including the memory's.
"""

from dataclasses import dataclass

from torch import Tensor

from retain.algos.dqn import DQNConfig, DQNUpdate
from retain.algos.off_policy_config import BUILT
from retain.algos.pieces import Batch
from retain.errors import check_range
from retain.ops import quantile_huber_loss
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class QRDQNConfig(DQNConfig):
    """Settings of QR-DQN."""

    quantiles: int = setting(50, fixed=BUILT)
    """Number of quantiles per action's return; the paper uses 200 for Atari."""
    double: bool = False
    """Choose the target's action with the online network and value it with the target network."""
    huber: float | None = 1.0
    """Huber threshold for the quantile error; None is plain quantile regression."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "quantiles", low=1)


class QRDQNUpdate(DQNUpdate):
    """DQN whose critic estimates the distribution of returns."""

    config: QRDQNConfig

    def critic_loss(self, batch: Batch, value: Tensor, target: Tensor) -> Tensor:
        """Quantile regression of `[1, length, N, M]` towards `[length, N, M]`."""
        return quantile_huber_loss(
            value=value,
            target=target,
            weight=batch.sample.weight,
            huber=self.config.huber,
            mask=batch.mask,
        )

    def error(self, value: Tensor, target: Tensor) -> Tensor:
        """`[length, N]` error of the mean."""
        return super().error(value.mean(-1), target.mean(-1))

    def estimate(self, value: Tensor) -> Tensor:
        """The mean of the quantiles."""
        return super().estimate(value.mean(-1))
