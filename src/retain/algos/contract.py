"""What an algorithm promises to the trainer, which runs it, and to the doctor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from retain.types import Carry, Obs

Acting = TypeVar("Acting")
"""What acts in the training environments."""


class Update(ABC, Generic[Acting]):
    """Turns experience into gradient steps."""

    checks: ClassVar[tuple[str, ...]]
    """Names of the doctor's invariants that this algorithm can be asked, besides those of all."""
    probes: ClassVar[tuple[str, ...]] = ()
    """Names of the doctor's probes that it can learn, besides those of all."""
    probe_share: ClassVar[float] = 1.0
    """Steps that it needs for a probe, in units of PPO's."""
    gradient_steps: int

    @abstractmethod
    def turn(self, collector: Acting, progress: Callable[[], float]) -> dict[str, float]:
        """Some steps, some updates; metrics by name, the same each time.

        Args:
            progress: share of the run that is over by now, in [0, 1].
        Raises:
            NonFiniteError: a loss or gradient was not finite.
        """

    @property
    @abstractmethod
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Every optimizer by name; together they own each trained parameter once."""

    @abstractmethod
    def outputs(self, obs: Obs, reset: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        """Everything that the networks make of a stream, `[T, B, F]`.

        Args:
            obs: `[T, B, ...]` prepared.
            reset: `[T, B]` bool.
            action: `[T, B, ...]` of the step before.
            reward: `[T, B]` of the step before.
        """

    @abstractmethod
    def expected(
        self, obs: Obs, carry: Carry, reset: Tensor, action: Tensor, reward: Tensor, chosen: Tensor
    ) -> Tensor:
        """`[1, B]` the discounted return expected from one step on.

        Args:
            obs: `[1, B, ...]` prepared, and the step's other inputs as `outputs`'.
            carry: of the policy, before the step.
            chosen: `[1, B, ...]` what is done there, for algorithms that value actions.
        """

    @abstractmethod
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the next update reads: tensors, and JSON for the rest."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
