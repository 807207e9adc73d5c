"""The settings of algorithms that learn from fresh segments."""

from dataclasses import dataclass
from typing import Any

from retain.algos.schedules import check_schedule
from retain.errors import UsageError, check_range
from retain.nn.torso import NetworkConfig
from retain.ranges import Log, NearOne
from retain.settings import setting


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(NetworkConfig):
    """The settings that the on-policy algorithms share."""

    learning_rate: float = setting(2.5e-4, search=Log(5e-5, 5e-3))
    """Adam's step size."""
    lr_schedule: str = "linear"
    """Schedule of the step size: constant, linear or cosine to 0 at the run's end, or
    module:name."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    num_steps: int = 128
    """Steps of each environment in a segment; more steps mean less bias but fewer updates."""
    epochs: int = 1
    """Passes over a segment."""
    batch_size: int | None = None
    """Steps in a minibatch, a multiple of the sequence length. None = the whole segment."""
    sequence_length: int | None = setting(None, needs="memory")
    """With memory: steps that a gradient reaches back; divides num_steps. None = the whole
    segment."""
    refresh_carries: bool = setting(False, needs="sequence_length")
    """With sequence_length: recompute the stored carries between epochs."""
    gamma: float = setting(0.99, search=NearOne(0.9, 0.999))
    """Discount factor per step."""
    max_grad_norm: float | None = 0.5
    """Largest global gradient norm."""
    normalise_reward: bool = setting(False, fixed="the saved statistics go with it")
    """Divide rewards by the running standard deviation of the return."""
    overlap: bool = setting(False, fixed="a segment that is collected but not learned goes with it")
    """Collect the next segment while learning from the last one: its actions come from parameters
    that are one update older."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_schedule(self.lr_schedule)
        check_range(self, "num_steps", "epochs", "batch_size", "sequence_length", low=1)
        check_range(self, "gamma", low=0, high=1)
        check_range(self, "learning_rate", low=0)
        check_range(self, "max_grad_norm", "adam_eps", low=0, above=True)
        if self.refresh_carries and self.epochs == 1:
            raise UsageError("refresh_carries would do nothing: epochs is 1")
        if self.overlap and not self.corrects:
            algo = type(self).__name__.removesuffix("Config").lower()
            raise UsageError(
                f"overlap is on, but the loss of {algo} takes every action for one of the current "
                "policy (expected off; ppo and vtrace correct for older ones)"
            )
        if self.num_steps % self.sequence:
            raise UsageError(
                f"sequence_length {self.sequence} does not divide num_steps {self.num_steps}"
                f"; nearest that does: {_nearest_divisor(self.num_steps, self.sequence)}"
            )
        if self.batch_size is not None and self.batch_size % self.sequence:
            nearest = max(1, round(self.batch_size / self.sequence)) * self.sequence
            raise UsageError(
                f"batch_size {self.batch_size} is not a multiple of the sequence length "
                f"{self.sequence}; nearest that is: {nearest}"
            )

    @property
    def corrects(self) -> bool:
        """Whether the loss corrects for actions of other parameters than the current ones."""
        return False

    @property
    def sequence(self) -> int:
        """Steps of one training sequence."""
        if not self.remembers:
            return 1
        return self.sequence_length or self.num_steps

    def small(self) -> dict[str, Any]:
        """Settings for an agent of the same kind that trains only briefly, for the doctor."""
        return {
            "num_envs": 4, "num_steps": 32, "batch_size": self.batch_size and 64,
            "epochs": min(self.epochs, 2), "sequence_length": self.sequence_length and 16,
        } | ({"sequence_length": 16} if self.remembers else {})  # fmt: skip

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return {
            "num_envs": 16, "num_steps": 16, "batch_size": 64, "epochs": 4,
            "sequence_length": None, "learning_rate": 5e-3, "lr_schedule": "linear",
            "normalise_reward": False, "max_grad_norm": 0.5,
        }  # fmt: skip

    def short_segments(self) -> dict[str, Any]:
        """Settings for the doctor with cues before the segment and traces that reach its end."""
        return {"num_steps": 4, "num_envs": 64}


def _nearest_divisor(total: int, wanted: int) -> int:
    return min((d for d in range(1, total + 1) if total % d == 0), key=lambda d: abs(d - wanted))
