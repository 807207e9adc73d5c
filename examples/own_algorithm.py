"""An algorithm of your own: a config, a loss, and a class that binds the two.

    python examples/own_algorithm.py
    retain train own_algorithm:SPO --env CartPoleNoVel-v1 --memory lstm     # from this folder
"""

import sys
from dataclasses import dataclass

from torch import Tensor

import retain
from retain.algos.policy_gradient import PolicyGradientConfig, PolicyGradientUpdate
from retain.data.rollout import Sequences
from retain.ops import normalise, value_loss


@dataclass(frozen=True, kw_only=True)
class SPOConfig(PolicyGradientConfig):
    """Everything SPO reads."""

    learning_rate: float = 1e-3
    """Adam's step size."""
    epochs: int = 4
    """Passes over a segment."""
    batch_size: int | None = 256
    """Steps in a minibatch, a multiple of the sequence length."""
    epsilon: float = 0.2
    """How far the probability ratio may move from 1."""


class SPOUpdate(PolicyGradientUpdate):
    """Simple policy optimisation (Xie et al. 2024, arXiv:2401.16025): a penalty for a clip.

    L = -(r A - |A| (r - 1)^2 / (2 epsilon)); the one loss owns every parameter.
    """

    config: SPOConfig

    def parts(
        self, batch: Sequences, log_prob: Tensor, value: Tensor, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The penalised policy loss, and half the squared error of the values."""
        ratio, advantage = (log_prob - batch.log_prob).exp(), normalise(batch.advantage)
        penalty = advantage.abs() * (ratio - 1).square() / (2 * self.config.epsilon)
        policy = -(ratio * advantage - penalty).mean()
        return policy, value_loss(value=value, target=batch.target).loss, {}


@retain.register_algorithm("spo")
class SPO(retain.OnPolicyAgent):
    """SPO with any memory, in any environment."""

    config_kind = SPOConfig
    update_kind = SPOUpdate


def main(steps: int = 50_000) -> None:
    """Trains, evaluates, and asks the doctor about what it can examine."""
    agent = SPO("CartPole-v1", seed=1)
    agent.learn(steps)
    print(f"SPO: return {agent.evaluate(10).return_mean:.0f}")
    for memory in ("none", "lstm"):
        report = retain.doctor(SPO("CartPoleNoVel-v1", memory=memory), probes=False)
        print(f"the doctor, with {memory}: {sum(r.verdict == 'ok' for r in report.results)} ok")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
