"""The settings of every algorithm that learns from a replay."""

from dataclasses import dataclass
from typing import Any, Literal

from retain.algos.schedules import check_schedule
from retain.errors import check_range
from retain.nn.torso import NetworkConfig
from retain.ranges import Log, NearOne, OneOf
from retain.settings import setting

BUILT = "the saved networks are built with it"
WRITTEN = "the saved replay was written with it"


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(NetworkConfig):
    """The settings that the off-policy algorithms share."""

    hidden: tuple[int, ...] = (256, 256)
    """MLP widths after the memory, for the actor and for each critic."""
    activation: Literal["tanh", "relu", "elu", "silu"] = "relu"
    """Activation of the MLPs."""
    shortcut: bool = setting(True, needs="memory")
    """With memory: pass the current features to the heads directly as well."""
    previous_action: bool = setting(True, needs="memory")
    """With memory: feed the last action to the network (zero at an episode's start)."""
    previous_reward: bool = setting(True, needs="memory")
    """With memory: feed the last reward to the network (zero at an episode's start)."""
    memory_owner: Literal["critic", "separate"] = setting("critic", fixed=BUILT)
    """Who trains the memory: critic (its loss trains one shared memory) or separate (actor and
    critic have one each)."""
    normaliser: Literal["running", "steady"] = setting(
        "running", needs="normalise_obs", fixed=BUILT
    )
    """How vectors are normalised: running (mean 0 and spread 1 by everything seen so far) or steady
    (only entries whose spread is not between 0.1 and 10, or whose mean is beyond 10, and then by
    the same numbers until they are as far off again)."""
    normalise_reward: bool = setting(False, fixed=BUILT)
    """Divide rewards by their size (of those that are not 0), where it is not between 0.01 and 100,
    and then by the same size until they are as far off again."""
    learning_rate: float = setting(1e-3, search=Log(1e-4, 3e-3))
    """Adam's step size."""
    lr_schedule: str = "constant"
    """Schedule of the step sizes: constant, linear or cosine to 0 at the run's end, or
    module:name."""
    actor_learning_rate: float | None = setting(None, needs="has_actor")
    """Adam's step size for the actor; None takes learning_rate."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    max_grad_norm: float | None = None
    """Largest global gradient norm, for each optimizer."""
    batch_size: int = 256
    """Steps in an update; if the replay gives sequences, a multiple of the sequence length."""
    sequence_length: int = setting(32, needs="sequences", fixed=WRITTEN)
    """With memory: training steps in each sequence from the replay (a window trains on single
    steps)."""
    burn_in: int = setting(0, needs="unbounded", fixed=WRITTEN)
    """With an unbounded memory: extra steps before each sequence that only refresh its stored
    carry."""
    store_carries: bool = setting(True, needs="unbounded")
    """With an unbounded memory: store the carries that acting left, and start sequences from them.
    Off, the replay stores no carries, and sequences start from a zero carry, `burn_in` steps
    early."""
    huber: float | None = None
    """Huber threshold for the critics' errors; None uses the plain square."""
    n_step: int = setting(1, fixed=WRITTEN)
    """Number of rewards in a target before it bootstraps."""
    gamma: float = setting(0.99, search=NearOne(0.9, 0.999))
    """Discount factor per step."""
    tau: float = setting(0.005, search=Log(1e-3, 0.1))
    """Share of the online networks that is mixed into their target networks at each update."""
    update_ratio: float = setting(1.0, search=OneOf(0.125, 0.25, 0.5, 1.0))
    """Updates per environment step."""
    learning_starts: int = 1000
    """Steps of uniform random actions before the first update."""
    buffer_size: int = setting(1_000_000, fixed=WRITTEN)
    """Steps that the replay holds, summed over all environments."""
    buffer_folder: str | None = setting(None, fixed=WRITTEN)
    """Folder for memory-mapped files of the replayed observations, if RAM cannot hold them."""
    prioritized: bool = setting(False, fixed=WRITTEN)
    """Sample steps by the size of their last error instead of uniformly."""
    priority_exponent: float = setting(0.6, needs="prioritized", fixed=WRITTEN)
    """alpha, the exponent of priorities: 0 is uniform, 1 is proportional to the error."""
    priority_beta: float = setting(0.4, needs="prioritized")
    """Initial importance-sampling exponent; it rises to 1 over the run."""
    num_steps: int = 200
    """Steps of each environment between two rows of metrics."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_range(
            self, "batch_size", "sequence_length", "n_step", "buffer_size", "num_steps", low=1
        )
        check_range(self, "gamma", "tau", "priority_exponent", "priority_beta", low=0, high=1)
        check_range(
            self, "learning_rate", "actor_learning_rate", "update_ratio", "burn_in",
            "learning_starts", low=0,
        )  # fmt: skip
        check_range(self, "max_grad_norm", "huber", "adam_eps", low=0, above=True)
        check_schedule(self.lr_schedule)

    def small(self) -> dict[str, Any]:
        """Settings for an agent of the same kind that trains only briefly, for the doctor."""
        return {
            "num_envs": 2, "batch_size": 64, "learning_starts": 60, "sequence_length": 8,
            "burn_in": min(self.burn_in, 4), "num_steps": 60, "buffer_size": 2000,
            "update_ratio": 0.5, "buffer_folder": None,
        }  # fmt: skip

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return {
            "num_envs": 4, "learning_starts": 100, "batch_size": 64, "update_ratio": 0.5,
            "learning_rate": 3e-3, "actor_learning_rate": None, "tau": 0.05, "buffer_size": 20_000,
            "num_steps": 50, "sequence_length": 8, "burn_in": 0, "n_step": 1, "huber": None,
            "max_grad_norm": 10.0, "buffer_folder": None, "prioritized": False,
        }  # fmt: skip

    @property
    def dueling(self) -> bool:
        """Whether the critic is split into a state value and advantages; only DQN's can be."""
        return False

    @property
    def quantiles(self) -> int:
        """Number of quantiles that a critic gives per return; 0 if it gives only the mean."""
        return 0

    @property
    def has_actor(self) -> bool:
        """Whether there is an actor beside the critic."""
        return True

    @property
    def reads_action(self) -> bool:
        """Whether the network reads the previous action; never without a memory."""
        return self.previous_action and self.remembers

    @property
    def reads_reward(self) -> bool:
        """Whether the network reads the previous reward; never without a memory."""
        return self.previous_reward and self.remembers
