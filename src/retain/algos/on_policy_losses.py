"""What an algorithm that learns from fresh segments defines: its networks, the targets of a
segment's steps, and the loss of a minibatch."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import torch
from torch import Tensor

from retain.algos.contract import Update
from retain.algos.on_policy_config import OnPolicyConfig
from retain.data.collector import Collector
from retain.data.rollout import Rollout, Sequences
from retain.nn.policy import SegmentPolicy
from retain.types import Carry, Obs


@dataclass
class Loss:
    """The loss of a minibatch."""

    total: Tensor
    """Scalar to minimise."""
    terms: dict[str, Tensor]
    """The loss's terms and further metrics: scalars by name."""
    gap: Tensor
    """`[L, N]` distance between training's forward and what acting computed, without gradient."""


class OnPolicyLosses(Update[Collector]):
    """The targets and the loss of an on-policy algorithm. Subclasses define them."""

    GAP: ClassVar[str] = "log_ratio"
    """The name of `Loss.gap` in the metrics; the gap is 0 before a segment's first step."""
    checks: ClassVar[tuple[str, ...]] = ("parity", "segment", "carried on", "segment's bootstrap")
    probes = ("last action", "earlier segment")
    config: OnPolicyConfig
    policy: SegmentPolicy

    def outputs(self, obs: Obs, reset: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        """`[T, B, 2]` the value, and the log-probability of one fixed action."""
        carry = self.policy.initial_carry(reset.shape[1])
        dist, value, _ = self.policy(obs, carry, reset, action, reward)
        return torch.stack((value, dist.log_prob(torch.zeros_like(action))), -1)

    def expected(
        self, obs: Obs, carry: Carry, reset: Tensor, action: Tensor, reward: Tensor, chosen: Tensor
    ) -> Tensor:
        """`[1, B]` the critic's value."""
        value: Tensor = self.policy(obs, carry, reset, action, reward)[1]
        return value

    @classmethod
    @abstractmethod
    def networks(
        cls, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Any
    ) -> SegmentPolicy:
        """The networks this algorithm trains.

        Raises:
            UsageError: the algorithm cannot learn such actions.
        """

    @abstractmethod
    def targets(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantage and value target of every step of a segment, `[T, B]` each."""

    @abstractmethod
    def loss(self, batch: Sequences, progress: float) -> Loss:
        """The loss on a minibatch of sequences."""

    def enough(self, loss: Loss) -> Tensor | None:
        """Bool scalar, whether the update ends now, before this minibatch's step; None if a loss
        never ends it."""
        return None

    def statistics(self, gap: Tensor, progress: float) -> Mapping[str, float | Tensor]:
        """Metrics from the gaps of every trained step, flat; numbers or scalars."""
        return {f"max_{self.GAP}": gap.abs().max()}

    def scale(self, progress: float) -> float:
        """How much acting explores at `progress` in [0, 1] of the run; 1 samples the policy."""
        return 1.0

    def explore(self, progress: float) -> dict[str, float]:
        """Sets the next segment's exploration to `scale`, and returns metrics about it."""
        return {}
