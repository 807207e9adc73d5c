"""The settings that every algorithm which learns from a replay reads."""

from dataclasses import dataclass
from typing import Any, Literal

from retain.algos.schedules import check_schedule
from retain.errors import check_range
from retain.nn.torso import NetworkConfig
from retain.settings import setting

BUILT = "the saved networks are built with it"
WRITTEN = "the saved replay was written with it"


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(NetworkConfig):
    """Everything the off-policy algorithms read together."""

    hidden: tuple[int, ...] = (256, 256)
    """MLP widths after the memory, for the actor and for each critic."""
    activation: Literal["tanh", "relu", "elu", "silu"] = "relu"
    """Activation of the MLPs."""
    shortcut: bool = setting(True, needs="memory")
    """With memory: the current features also go past it."""
    previous_action: bool = setting(True, needs="memory")
    """With memory: it also reads the last action (zero at an episode's start)."""
    previous_reward: bool = setting(True, needs="memory")
    """With memory: it also reads the last reward (zero at an episode's start)."""
    memory_owner: Literal["critic", "separate"] = setting("critic", fixed=BUILT)
    """critic: its loss trains the one memory; separate: actor and critic have one each."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    lr_schedule: str = "constant"
    """How the step sizes move: constant, linear or cosine to 0 at the run's end, or module:name."""
    actor_learning_rate: float | None = setting(None, needs="has_actor")
    """The actor's own; None takes learning_rate."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    max_grad_norm: float | None = None
    """Largest global gradient norm of each optimizer."""
    batch_size: int = 256
    """Steps in an update. Where pieces are sequences, a multiple of the sequence length."""
    sequence_length: int = setting(32, needs="sequences", fixed=WRITTEN)
    """With a memory: steps that a piece of the replay trains on (a window's pieces are single)."""
    burn_in: int = setting(0, needs="unbounded", fixed=WRITTEN)
    """With an unbounded memory: steps in front of those that only bring its stored carry up to
    date."""
    store_carries: bool = setting(True, needs="unbounded")
    """With an unbounded memory: sequences start from the carry that acting left. Off, they start
    from nothing, `burn_in` steps early, and the replay stores no carries."""
    huber: float | None = None
    """Huber threshold of the critics' errors instead of the plain square."""
    n_step: int = setting(1, fixed=WRITTEN)
    """Rewards in a target before it bootstraps."""
    gamma: float = 0.99
    """Discount of a step."""
    tau: float = 0.005
    """Share of the networks that flows into their targets' copies at each update."""
    update_ratio: float = 1.0
    """Updates per environment step."""
    learning_starts: int = 1000
    """Steps of uniform random actions before the first update."""
    buffer_size: int = setting(1_000_000, fixed=WRITTEN)
    """Steps that the replay holds, of all environments together."""
    buffer_folder: str | None = setting(None, fixed=WRITTEN)
    """Keep the replayed observations in memory-mapped files there, for more than RAM holds."""
    prioritized: bool = setting(False, fixed=WRITTEN)
    """Sample by the size of the last error instead of uniformly."""
    priority_exponent: float = setting(0.6, needs="prioritized", fixed=WRITTEN)
    """alpha: 0 is uniform, 1 is in proportion to the error."""
    priority_beta: float = setting(0.4, needs="prioritized")
    """Importance exponent at first; it rises to 1 over the run."""
    num_steps: int = 200
    """Steps of each environment between two rows of the metrics."""

    def __post_init__(self) -> None:
        """Refuses values that cannot mean anything."""
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
        """Settings of an agent of the same kind that trains for a moment (the doctor's)."""
        return {
            "num_envs": 2, "batch_size": 64, "learning_starts": 60, "sequence_length": 8,
            "burn_in": min(self.burn_in, 4), "num_steps": 60, "buffer_size": 2000,
            "update_ratio": 0.5, "buffer_folder": None,
        }  # fmt: skip

    def probing(self) -> dict[str, Any]:
        """Settings that learn the doctor's probes."""
        return {
            "num_envs": 4, "learning_starts": 100, "batch_size": 64, "update_ratio": 0.5,
            "learning_rate": 3e-3, "actor_learning_rate": None, "tau": 0.05, "buffer_size": 20_000,
            "num_steps": 50, "sequence_length": 8, "burn_in": 0, "n_step": 1, "huber": None,
            "max_grad_norm": 10.0, "buffer_folder": None, "prioritized": False,
        }  # fmt: skip

    @property
    def dueling(self) -> bool:
        """Whether the critic is a value and advantages around it; only DQN's may be."""
        return False

    @property
    def quantiles(self) -> int:
        """Quantiles that a critic gives for a return; 0 where it gives the mean alone."""
        return 0

    @property
    def has_actor(self) -> bool:
        """Whether there is an actor beside the critic."""
        return True

    @property
    def reads_action(self) -> bool:
        """Without a memory, one step is all there is."""
        return self.previous_action and self.remembers

    @property
    def reads_reward(self) -> bool:
        """Without a memory, one step is all there is."""
        return self.previous_reward and self.remembers
