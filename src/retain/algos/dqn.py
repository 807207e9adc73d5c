"""Deep Q-learning (Mnih et al. 2015), double (van Hasselt et al. 2016), dueling, any memory.

y = r + gamma Q'(s', argmax_a Q(s', a)),   L = Huber(Q(s, a) - y)

With `memory="lstm"`, `burn_in` and `prioritized` it is a small R2D2 (Kapturowski et al. 2019). The
single loss trains every parameter.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor

from retain.algos.off_policy import OffPolicyUpdate
from retain.algos.off_policy_config import BUILT, OffPolicyConfig
from retain.algos.optim import falling
from retain.algos.pieces import Batch
from retain.errors import UsageError, check_range
from retain.nn.q_networks import OffPolicyNets, only
from retain.ranges import Uniform
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class DQNConfig(OffPolicyConfig):
    """Settings of DQN."""

    double: bool = True
    """Choose the target's action with the online network and value it with the target network."""
    dueling: bool = setting(False, fixed=BUILT)
    """Split the critic into a state value and advantages."""
    huber: float | None = 1.0
    """Huber threshold for the value error; None uses the plain square."""
    max_grad_norm: float | None = 10.0
    """Largest global gradient norm."""
    epsilon: float = 1.0
    """Initial probability of a random action."""
    epsilon_final: float = 0.05
    """Final probability of a random action, reached linearly."""
    exploration_fraction: float = setting(0.2, search=Uniform(0.05, 0.5))
    """Share of the run over which epsilon falls."""

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return super().probing() | {
            "epsilon": 1.0, "epsilon_final": 0.1, "exploration_fraction": 0.5,
        }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(self, "epsilon", "epsilon_final", "exploration_fraction", low=0, high=1)
        if self.memory_owner != "critic":
            raise UsageError(
                f"memory_owner is {self.memory_owner!r}, but "
                f"{type(self).__name__.removesuffix('Config').lower()} has no actor "
                "(expected 'critic')"
            )

    @property
    def has_actor(self) -> bool:
        """False: the critic acts."""
        return False


class DQNUpdate(OffPolicyUpdate):
    """One critic over all actions, and its target network."""

    checks = ("replay", "starts", "targets", "replay's bootstrap")
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
        fraction = config.exploration_fraction
        return falling(config.epsilon, config.epsilon_final, fraction, progress)

    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """Q'(s', a'), where a' is the online network's choice, or else the target network's, among
        the actions that s' allows."""
        target, online = self.nets.target_critic, self.nets.critic
        value = target.forward(after)
        judged = online.forward(batch.features_after) if self.config.double else value
        choice = only(online.mean(judged)[0], batch.allowed_after).argmax(-1)
        chosen: Tensor = target.pick(value, choice)[0]
        return chosen
