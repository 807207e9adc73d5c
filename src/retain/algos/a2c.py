"""Advantage actor-critic, synchronous (Mnih et al. 2016, arXiv:1602.01783), any memory.

L_policy = -log pi(a_t|s_t) A_t,   L_value = (V(s_t) - G_t)^2 / 2

with A_t the generalised advantage estimate and G_t = A_t + V(s_t); `gae_lambda` 1 makes G_t the
paper's n-step return. Each segment gives one gradient step. The data are never old, so nothing is
clipped. The single loss trains every parameter, including the memory's. Adam replaces RMSprop.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from retain.algos.policy_gradient import PolicyGradientConfig, PolicyGradientUpdate
from retain.data.rollout import Sequences
from retain.errors import UsageError
from retain.ops import value_loss


@dataclass(frozen=True, kw_only=True)
class A2CConfig(PolicyGradientConfig):
    """Settings of A2C."""

    learning_rate: float = 7e-4
    """Adam's step size."""
    num_steps: int = 8
    """Steps of each environment in a segment; with memory, how far a gradient reaches back."""
    gae_lambda: float = 1.0
    """Lambda of the advantage estimate's trace: 0 = one step, 1 = n-step returns."""
    normalise_advantage: bool = False
    """Scale the advantages of each segment to mean 0 and standard deviation 1."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        if self.epochs != 1 or self.batch_size is not None:
            raise UsageError(
                f"a2c takes one step on the whole segment (epochs is {self.epochs}, batch_size is "
                f"{self.batch_size}); ppo takes several"
            )

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return super().probing() | {"num_envs": 8, "num_steps": 8, "epochs": 1, "batch_size": None}


class A2CUpdate(PolicyGradientUpdate):
    """Takes one plain policy-gradient step per segment."""

    config: A2CConfig

    def parts(
        self, batch: Sequences, log_prob: Tensor, value: Tensor, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """-log pi A, and the value error."""
        scaled = self.config.normalise_advantage
        advantage = self.normalised(batch) if scaled else batch.advantage
        huber = self.config.value_huber
        critic = value_loss(value=value, target=batch.target, huber=huber).loss
        return -(log_prob * advantage).mean(), critic, {}
