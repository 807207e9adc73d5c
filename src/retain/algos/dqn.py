"""Deep Q-learning (Mnih et al. 2015), double (van Hasselt et al. 2016), dueling, any memory.

y = r + gamma Q'(s', argmax_a Q(s', a)),   L = Huber(Q(s, a) - y)

With `memory="lstm"`, `burn_in` and `prioritized` it is R2D2 in small (Kapturowski et al. 2019).
There is one loss, and it owns everything.
"""

from dataclasses import dataclass

import gymnasium as gym
from torch import Tensor

from retain.algos.off_policy import Batch, OffPolicyConfig, OffPolicyUpdate
from retain.errors import UsageError, check_range
from retain.nn.q_networks import OffPolicyNets


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
        check_range(self, "epsilon", "epsilon_final", "exploration_fraction", low=0, high=1)
        if self.memory_owner != "critic":
            raise UsageError(
                f"memory_owner is {self.memory_owner!r}, but dqn has no actor (expected 'critic')"
            )

    @property
    def has_actor(self) -> bool:
        """The critic acts."""
        return False


class DQNUpdate(OffPolicyUpdate):
    """One critic over all actions, and its target."""

    METRICS = ("critic_loss", "q_mean", "grad_norm", "masked_fraction")
    action_space = gym.spaces.Discrete
    others = "for Box ones there are ddpg, td3, sac and ppo"
    actor = None
    critics = 1
    config: DQNConfig

    def __init__(self, config: DQNConfig, nets: OffPolicyNets, *, seed: int) -> None:
        super().__init__(config, nets, seed=seed)
        self.reads_after = config.double

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
