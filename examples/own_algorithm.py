"""Your own algorithm: define only its loss, and use any memory and any environment.

python examples/own_algorithm.py                                  # trains on CartPole
retain train own_algorithm:PenaltyPPO --env CartPoleNoVel-v1 --memory lstm   # from this folder
"""

import sys
from dataclasses import dataclass

from torch import Tensor

import retain
from retain.algos.policy_gradient import PolicyGradientConfig, PolicyGradientUpdate
from retain.data.rollout import Sequences
from retain.ops import normalise, value_loss


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(PolicyGradientConfig):
    epochs: int = 4
    """Passes over a segment."""
    batch_size: int | None = 256
    """Steps in a minibatch."""
    kl_coef: float = 1.0
    """Weight of the divergence from the policy that acted."""


class PenaltyUpdate(PolicyGradientUpdate):
    """PPO with a penalty on the divergence, not clipped (Schulman et al. 2017, eq. 8)."""

    config: PenaltyConfig

    def parts(
        self, batch: Sequences, log_prob: Tensor, value: Tensor, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        ratio = (log_prob - batch.log_prob).exp()
        kl = (ratio - 1 - ratio.log()).mean()
        policy = self.config.kl_coef * kl - (ratio * normalise(batch.advantage)).mean()
        return policy, value_loss(value=value, target=batch.target).loss, {"kl": kl}


@retain.register_algorithm("ppo-penalty")
class PenaltyPPO(retain.OnPolicyAgent):
    config_kind = PenaltyConfig
    config: PenaltyConfig
    update_kind = PenaltyUpdate


def main(steps: int = 50_000) -> None:
    """Trains the agent, and lets the doctor examine it."""
    agent = PenaltyPPO("CartPole-v1", seed=1, learning_rate=1e-3)
    agent.learn(steps)
    print(f"PPO with a penalty: return {agent.evaluate(10).return_mean:.0f}")
    report = retain.doctor(PenaltyPPO("CartPoleNoVel-v1", memory="gru", num_envs=4), probes=False)
    print(f"doctor: {len(report.results)} checks, {len(report.failed)} failed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
