"""Deep Q-learning (Mnih et al. 2015), double (van Hasselt et al. 2016), dueling, any memory.

y = r + gamma Q'(s', argmax_a Q(s', a)),   L = Huber(Q(s, a) - y)

With `memory="lstm"`, `burn_in` and `prioritized` it is R2D2 in small (Kapturowski et al. 2019).
There is one loss, and it owns everything.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor

from retain.algos.off_policy import Batch, OffPolicyConfig, OffPolicyUpdate
from retain.errors import UsageError
from retain.nn.off_policy import OffPolicyNets


@dataclass(frozen=True, kw_only=True)
class DQNConfig(OffPolicyConfig):
    """Everything DQN reads."""

    double: bool = True
    """The online network chooses the target's action, the target network values it."""
    dueling: bool = False
    """A value and advantages around it."""
    huber: float | None = 1.0
    """Huber threshold of the error; None is the plain square."""
    max_grad_norm: float | None = 10.0
    """Largest global gradient norm."""
    epsilon: float = 1.0
    """Probability of a random action at first."""
    epsilon_final: float = 0.05
    """What it falls to, linearly."""
    exploration_fraction: float = 0.2
    """Share of the run in which it falls."""

    def __post_init__(self) -> None:
        """Refuses values that cannot mean anything."""
        super().__post_init__()
        for name in ("epsilon", "epsilon_final", "exploration_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} is {getattr(self, name)} (expected 0 to 1)")


class DQNUpdate(OffPolicyUpdate):
    """One critic over all actions, and its target."""

    METRICS = ("critic_loss", "q_mean", "grad_norm")
    config: DQNConfig

    @staticmethod
    def networks(
        observation_space: gym.Space[Any], action_space: gym.Space[Any], config: DQNConfig
    ) -> OffPolicyNets:
        """One critic with its target, and no actor.

        Raises:
            UsageError: the actions are not Discrete.
        """
        if not isinstance(action_space, gym.spaces.Discrete):
            raise UsageError(
                f"dqn needs Discrete actions, but the action space is {action_space}; "
                "for Box ones there are ddpg, td3, sac and ppo"
            )
        return OffPolicyNets(
            observation_space, action_space, config, actor=None, critics=1,
            target_actor=False, own_torso=False, dueling=config.dueling,
        )  # fmt: skip

    def scale(self, progress: float) -> float:
        """epsilon."""
        config = self.config
        over = progress >= config.exploration_fraction
        done = 1.0 if over else progress / config.exploration_fraction
        return config.epsilon + (config.epsilon_final - config.epsilon) * done

    def predicted(self, batch: Batch) -> Tensor:
        """`[1, length, N]` values of the actions that were done."""
        values = self.nets.critic.forward(batch.features)
        return values.gather(-1, batch.action.unsqueeze(-1).unsqueeze(0)).squeeze(-1)

    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """Q'(s', a'), with a' the online network's choice, or the target's own."""
        value = self.nets.target_critic.forward(after)[0]
        if not self.config.double:
            highest: Tensor = value.amax(-1)
            return highest
        choice = self.nets.critic.forward(batch.features_after)[0].argmax(-1, keepdim=True)
        chosen: Tensor = value.gather(-1, choice).squeeze(-1)
        return chosen
