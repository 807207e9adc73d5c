"""V-trace actor-critic, the loss of IMPALA (Espeholt et al. 2018, arXiv:1802.01561), any memory.

v_t - V(s_t) = rho_t (r_t + gamma V(s_{t+1}) - V(s_t)) + gamma c_t (v_{t+1} - V(s_{t+1}))
L_policy = -rho_t log pi(a_t|s_t) (r_t + gamma v_{t+1} - V(s_t)),   L_value = (V(s_t) - v_t)^2 / 2

with rho_t = min(rho_clip, pi/mu) and c_t = lambda min(c_clip, pi/mu). The loss computes the targets
from the current policy and critic over whole sequences, so a segment may serve several passes or
come from an older policy. The name is V-trace and not IMPALA because IMPALA is an architecture of
actors and learners that this library does not have. The single loss trains every parameter,
including the memory's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.algos.policy_gradient import PolicyGradientConfig, PolicyGradientUpdate
from retain.data.rollout import RewardedSequences, Rollout, Sequences
from retain.errors import check_range
from retain.ops import value_loss, vtrace
from retain.types import Obs


@dataclass(frozen=True, kw_only=True)
class VTraceConfig(PolicyGradientConfig):
    """Settings of V-trace."""

    num_steps: int = 32
    """Steps of each environment in a segment; more steps mean less bias but fewer updates."""
    sequence_length: int | None = None
    """Steps in each sequence over which targets are computed; divides num_steps. None = the whole
    segment."""
    gae_lambda: float = 1.0
    """lambda, the factor on the traces at each step."""
    rho_clip: float = 1.0
    """Largest weight of a TD error; it decides which policy's values are learned."""
    c_clip: float = 1.0
    """Largest weight of a trace; it decides how fast the values converge."""

    @property
    def corrects(self) -> bool:
        """See `OnPolicyConfig.corrects`: by the ratio to the policy that acted."""
        return True

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "rho_clip", "c_clip", low=0, above=True)

    @property
    def sequence(self) -> int:
        """Steps of one training sequence, also without memory, since targets are computed along
        it."""
        return self.sequence_length or self.num_steps


class VTraceUpdate(PolicyGradientUpdate):
    """Policy gradient and values, corrected for the policy that acted."""

    config: VTraceConfig

    def targets(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantage and target under the policy that acted."""
        target, advantage = self._vtrace(rollout, rollout.log_prob, rollout.value)
        return advantage, target

    def cut(self, rollout: Rollout, obs: Obs, advantage: Tensor, target: Tensor) -> Sequences:
        """Sequences that include their rewards and ends."""
        return rollout.rewarded_sequences(obs=obs, advantage=advantage, target=target)

    def parts(
        self, batch: Sequences, log_prob: Tensor, value: Tensor, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """-rho log pi A, and the value error, both against current targets."""
        assert isinstance(batch, RewardedSequences)
        target, advantage = self._vtrace(batch, log_prob.detach(), value.detach())
        huber = self.config.value_huber
        critic = value_loss(value=value, target=target, huber=huber).loss
        return -(log_prob * advantage).mean(), critic, {}

    def _vtrace(
        self, steps: Rollout | RewardedSequences, log_prob: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Target and advantage under the policy of `log_prob` and the critic of `value`.

        A successor inside the sequence takes its current value. The successor of a cut episode or
        of the sequence's last step takes its value from acting, since its observation is not
        trained on.
        """
        ended = steps.terminated | steps.truncated
        following = torch.cat((value[1:], steps.next_value[-1:]))
        return vtrace(
            log_prob=log_prob,
            behaviour_log_prob=steps.log_prob,
            reward=steps.reward,
            value=value,
            next_value=torch.where(ended, steps.next_value, following),
            terminated=steps.terminated,
            truncated=steps.truncated,
            gamma=self.config.gamma,
            lam=self.config.gae_lambda,
            rho_clip=self.config.rho_clip,
            c_clip=self.config.c_clip,
        )
