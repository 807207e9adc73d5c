"""Parallelised Q-network (Gallici et al. 2024, arXiv:2407.04811), any memory.

G_t = r_t + gamma [lambda G_{t+1} + (1 - lambda) max_a Q(s_{t+1}, a)]
L = (Q(s_t, a_t) - G_t)^2 / 2

Q-learning on fresh segments of many environments. There is no replay, and no target network, since
layer normalisation keeps the values from diverging. Acting is epsilon-greedy. The single loss
trains every parameter, including the memory's. Adam replaces the paper's RAdam.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
from torch import Tensor

from retain.algos.on_policy import OnPolicyUpdate
from retain.algos.on_policy_config import OnPolicyConfig
from retain.algos.on_policy_losses import Loss
from retain.algos.optim import falling
from retain.data.rollout import Rollout, Sequences
from retain.errors import UsageError, check_range
from retain.nn.greedy import GreedyHead, GreedyPolicy
from retain.ops import lambda_return, q_loss
from retain.ranges import Log, NearOne, Uniform
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class PQNConfig(OnPolicyConfig):
    """Settings of PQN. Defaults are close to the paper's for vector observations."""

    hidden: tuple[int, ...] = (128, 128)
    """MLP widths after the memory, each with layer normalisation."""
    activation: Literal["tanh", "relu", "elu", "silu"] = "relu"
    """Activation of the MLP."""
    learning_rate: float = 5e-4
    """Adam's step size."""
    num_steps: int = 32
    """Steps of each environment in a segment."""
    epochs: int = setting(4, search=Log(1, 8))
    """Passes over a segment."""
    batch_size: int | None = 128
    """Steps in a minibatch, a multiple of the sequence length. None = the whole segment."""
    max_grad_norm: float | None = 10.0
    """Largest global gradient norm."""
    q_lambda: float = setting(0.65, search=NearOne(0.3, 0.95))
    """Lambda of the returns: 0 = one-step targets, 1 = Monte Carlo."""
    huber: float | None = None
    """Huber threshold for the value error; None uses the plain square."""
    epsilon: float = 1.0
    """Initial probability of a random action."""
    epsilon_final: float = 0.05
    """Final probability of a random action, reached linearly."""
    exploration_fraction: float = setting(0.2, search=Uniform(0.05, 0.5))
    """Share of the run over which epsilon falls."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(
            self, "q_lambda", "epsilon", "epsilon_final", "exploration_fraction", low=0, high=1
        )
        check_range(self, "huber", low=0, above=True)

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return super().probing() | {
            "q_lambda": 0.65, "huber": None, "epsilon": 1.0, "epsilon_final": 0.1,
            "exploration_fraction": 0.5, "max_grad_norm": 10.0,
        }  # fmt: skip

    def short_segments(self) -> dict[str, Any]:
        """See `OnPolicyConfig.short_segments`."""
        return super().short_segments() | {"q_lambda": 1.0}


class PQNUpdate(OnPolicyUpdate):
    """Q-learning over segments."""

    GAP = "value_gap"
    config: PQNConfig
    policy: GreedyPolicy

    @classmethod
    def networks(
        cls, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Any
    ) -> GreedyPolicy:
        """Action values with layer normalisation."""
        if not isinstance(action_space, gym.spaces.Discrete):
            raise UsageError(
                f"pqn needs Discrete actions, but the action space is {action_space}; "
                "for Box actions use ppo, sac, tqc or td3"
            )
        return GreedyPolicy(observation_space, action_space, config)

    def scale(self, progress: float) -> float:
        """epsilon."""
        config = self.config
        fraction = config.exploration_fraction
        return falling(config.epsilon, config.epsilon_final, fraction, progress)

    def explore(self, progress: float) -> dict[str, float]:
        """Sets epsilon."""
        head = self.policy.head
        assert isinstance(head, GreedyHead)
        head.epsilon.fill_(self.scale(progress))
        return {"exploration": self.scale(progress)}

    def targets(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """The lambda-returns, and their distance from the best action's value."""
        target = lambda_return(
            reward=rollout.reward,
            next_value=rollout.next_value,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            gamma=self.config.gamma,
            lam=self.config.q_lambda,
        )
        return target - rollout.value, target

    def loss(self, batch: Sequences, progress: float) -> Loss:
        """The error of the values of the actions taken."""
        value, _ = self.policy.action_values(
            batch.obs, batch.carry, batch.reset, batch.previous_action, batch.previous_reward
        )
        done = value.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        loss = q_loss(value=done.unsqueeze(0), target=batch.target, huber=self.config.huber)
        best = self.policy.best(value, batch.obs).detach()
        terms = {"critic_loss": loss, "q_mean": done.mean()}
        return Loss(loss, terms, best - batch.value)
