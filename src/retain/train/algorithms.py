"""One agent class per algorithm, which binds a configuration and an update."""

from retain.algos.a2c import A2CConfig, A2CUpdate
from retain.algos.ddpg import DDPGConfig, DDPGUpdate
from retain.algos.dqn import DQNConfig, DQNUpdate
from retain.algos.ppo import PPOConfig, PPOUpdate
from retain.algos.pqn import PQNConfig, PQNUpdate
from retain.algos.qrdqn import QRDQNConfig, QRDQNUpdate
from retain.algos.sac import SACConfig, SACUpdate
from retain.algos.sac_discrete import DiscreteSACUpdate
from retain.algos.td3 import TD3Config, TD3Update
from retain.algos.tqc import TQCConfig, TQCUpdate
from retain.algos.vtrace import VTraceConfig, VTraceUpdate
from retain.train.off_policy import OffPolicyAgent
from retain.train.on_policy import OnPolicyAgent
from retain.train.registry import AGENTS, algorithm_class, register_algorithm

__all__ = [
    "A2C",
    "AGENTS",
    "DDPG",
    "DQN",
    "PPO",
    "PQN",
    "QRDQN",
    "SAC",
    "TD3",
    "TQC",
    "VTrace",
    "algorithm_class",
]


@register_algorithm("ppo")
class PPO(OnPolicyAgent):
    """Proximal policy optimisation with any memory.

    `PPO("CartPoleNoVel-v1", memory="lstm", seed=1, num_envs=8, learning_rate=1e-3, ...)`
    """

    config_kind = PPOConfig
    config: PPOConfig
    update_kind = PPOUpdate


@register_algorithm("a2c")
class A2C(OnPolicyAgent):
    """Advantage actor-critic with any memory; every action space."""

    config_kind = A2CConfig
    config: A2CConfig
    update_kind = A2CUpdate


@register_algorithm("vtrace")
class VTrace(OnPolicyAgent):
    """V-trace, IMPALA's loss, with any memory; every action space."""

    config_kind = VTraceConfig
    config: VTraceConfig
    update_kind = VTraceUpdate


@register_algorithm("pqn")
class PQN(OnPolicyAgent):
    """Parallelised Q-learning without a replay, with any memory; Discrete actions."""

    config_kind = PQNConfig
    config: PQNConfig
    update_kind = PQNUpdate


@register_algorithm("ddpg")
class DDPG(OffPolicyAgent):
    """Deep deterministic policy gradient with any memory; Box actions."""

    config_kind = DDPGConfig
    update_kind = DDPGUpdate


@register_algorithm("td3")
class TD3(OffPolicyAgent):
    """Twin delayed DDPG with any memory; Box actions."""

    config_kind = TD3Config
    update_kind = TD3Update


@register_algorithm("sac")
class SAC(OffPolicyAgent):
    """Soft actor-critic with any memory; Box or Discrete actions."""

    config_kind = SACConfig
    update_kind = SACUpdate
    discrete_kind = DiscreteSACUpdate


@register_algorithm("dqn")
class DQN(OffPolicyAgent):
    """Deep Q-learning with any memory; Discrete actions."""

    config_kind = DQNConfig
    update_kind = DQNUpdate


@register_algorithm("qrdqn")
class QRDQN(OffPolicyAgent):
    """Quantile-regression DQN with any memory; Discrete actions."""

    config_kind = QRDQNConfig
    update_kind = QRDQNUpdate


@register_algorithm("tqc")
class TQC(OffPolicyAgent):
    """Truncated quantile critics with any memory; Box actions."""

    config_kind = TQCConfig
    update_kind = TQCUpdate
