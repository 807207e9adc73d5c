"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), with or without memory.

Read this file first, then `on_policy`, which it stands on. One update takes a segment of the
timeline, estimates advantages, cuts the segment into sequences at the stored carries, and trains
on shuffled minibatches of sequences with the same forward that acted:

L_policy = -mean min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t),   r_t = pi(a_t|s_t) / pi_old(a_t|s_t)
L = L_policy + c_v L_value - c_e H(pi)

The single loss trains every parameter, including the memory's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retain.algos.on_policy_losses import Loss
from retain.algos.policy_gradient import PolicyGradientConfig, PolicyGradientUpdate
from retain.algos.schedules import check_schedule, scheduled
from retain.data.rollout import Sequences
from retain.errors import check_range
from retain.ops import approx_kl, policy_loss, ratio_statistics, value_loss
from retain.ranges import Log, Uniform
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class PPOConfig(PolicyGradientConfig):
    """Settings of PPO. Defaults are CleanRL's for vector observations."""

    epochs: int = setting(4, search=Log(2, 20))
    """Passes over a segment."""
    batch_size: int = 256
    """Steps in a minibatch; with memory, a multiple of the sequence length."""
    normalise_advantage: bool = True
    """Scale the advantages of each minibatch to mean 0 and standard deviation 1."""
    clip_range: float = setting(0.2, search=Uniform(0.1, 0.4))
    """Clip range c: a ratio beyond [1 - c, 1 + c] earns nothing more."""
    clip_range_high: float | None = None
    """A separate upper clip range: [1 - clip_range, 1 + clip_range_high]."""
    clip_schedule: str = "constant"
    """Schedule of the clip range: constant, linear or cosine to 0, or module:name."""
    value_clip: float | None = None
    """How far a value may move from the collected one in one update, in units of return."""
    target_kl: float | None = None
    """End the update when a minibatch's approximate KL exceeds 1.5 times this."""

    @property
    def corrects(self) -> bool:
        """See `OnPolicyConfig.corrects`: by the ratio to the policy that acted."""
        return True

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(
            self, "clip_range", "clip_range_high", "value_clip", "target_kl", low=0, above=True
        )
        check_schedule(self.clip_schedule)

    def small(self) -> dict[str, Any]:
        """Settings for an agent of the same kind that trains only briefly, for the doctor."""
        return super().small() | {"target_kl": None}

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return super().probing() | {
            "target_kl": None, "clip_range": 0.2, "clip_range_high": None, "value_clip": None,
        }  # fmt: skip


class PPOUpdate(PolicyGradientUpdate):
    """Makes several passes over a segment, held near the policy that acted."""

    config: PPOConfig

    def parts(
        self, batch: Sequences, log_prob: Tensor, value: Tensor, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The clipped surrogate, and the value error, clipped if `value_clip` is set."""
        config = self.config
        advantage = self.normalised(batch) if config.normalise_advantage else batch.advantage
        policy = policy_loss(
            log_prob=log_prob,
            old_log_prob=batch.log_prob,
            advantage=advantage,
            clip=self.clip(progress),
        )
        critic = value_loss(
            value=value,
            target=batch.target,
            old_value=batch.value,
            value_clip=config.value_clip,
            huber=config.value_huber,
        )
        return policy.loss, critic.loss, {"value_clip_fraction": critic.clip_fraction}

    def enough(self, loss: Loss) -> Tensor | None:
        """Whether the policy has moved too far from the one that acted."""
        bound = self.config.target_kl
        if bound is None:
            return None
        return approx_kl(log_prob=loss.gap, old_log_prob=torch.zeros_like(loss.gap)) > 1.5 * bound

    def statistics(self, gap: Tensor, progress: float) -> Mapping[str, float | Tensor]:
        """How far the policy has moved, and the share of steps beyond the clip range."""
        ratios = ratio_statistics(log_ratio=gap, clip=self.clip(progress))
        return {
            "approx_kl": ratios.approx_kl,
            "clip_fraction": ratios.clip_fraction,
            "max_log_ratio": ratios.max_log_ratio,
        }

    def clip(self, progress: float) -> tuple[float, float]:
        """The clip range at `progress` of the run."""
        config = self.config
        low, high = config.clip_range, config.clip_range_high or config.clip_range
        schedule = config.clip_schedule
        return scheduled(low, schedule, progress), scheduled(high, schedule, progress)
