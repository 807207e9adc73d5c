"""The contract of an algorithm with the trainer, which runs it, and with the doctor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from retain.types import Carry, Obs

Acting = TypeVar("Acting", contravariant=True)
"""The driver that acts in the training environments."""


class Update(ABC, Generic[Acting]):
    """Turns experience into gradient steps."""

    checks: ClassVar[tuple[str, ...]]
    """Names of doctor's invariants for this algorithm, in addition to those for all."""
    probes: ClassVar[tuple[str, ...]] = ()
    """Names of doctor's probes that this algorithm can learn, in addition to those for all."""
    probe_share: ClassVar[float] = 1.0
    """Steps that the algorithm needs for a probe, in units of PPO's."""
    gradient_steps: int

    @abstractmethod
    def turn(self, collector: Acting, progress: Callable[[], float]) -> dict[str, float]:
        """Takes some steps and some updates; returns metrics with the same names each time.

        Args:
            progress: gives the finished share of the run, in [0, 1].
        Raises:
            NonFiniteError: a loss or gradient was not finite.
        """

    @property
    @abstractmethod
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Every optimizer by name; together they own each trained parameter once."""

    @abstractmethod
    def outputs(self, obs: Obs, reset: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        """The outputs of all networks on a stream, `[T, B, F]`.

        Args:
            obs: `[T, B, ...]` prepared observations.
            reset: `[T, B]` bool.
            action: `[T, B, ...]` actions of the previous steps.
            reward: `[T, B]` rewards of the previous steps.
        """

    @abstractmethod
    def expected(
        self, obs: Obs, carry: Carry, reset: Tensor, action: Tensor, reward: Tensor, chosen: Tensor
    ) -> Tensor:
        """`[1, B]` the expected discounted return from one step on.

        Args:
            obs: `[1, B, ...]` prepared observations; the step's other inputs are as in `outputs`.
            carry: the policy's carry before the step.
            chosen: `[1, B, ...]` the action taken there, for algorithms that value actions.
        """

    @abstractmethod
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The inputs of the next update: tensors, and JSON for the rest."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restores what `state` returned."""
