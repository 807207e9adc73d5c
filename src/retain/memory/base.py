"""The contract of every memory: a function of a stream of features, a carry and explicit resets."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from retain.memory.arrays import ArrayStep, NoStep, has_arrays
from retain.types import Carry, tree_map


class Memory(nn.Module, ABC):
    """Turns a stream of features into a stream of features that also know the past.

    The carry is an argument and a return value, never an attribute: the module holds parameters,
    the caller holds the state. Acting is `forward` with T = 1, training is `forward` with T > 1,
    and one unroll equals two with the carry passed between them.
    """

    features_in: int
    """Width D of the input."""
    features: int
    """Width H of the output."""
    receptive_field: int | None = None
    """Number of input steps that can influence an output, including the current one; None =
    unbounded.

    The number decides how a replay trains the memory. With None, the replay stores the carry that
    acting left; with L, it rebuilds the carry from the last L steps; with 1, it keeps nothing."""
    unrolls: ClassVar[bool] = True
    """Whether an unroll over T steps costs less than T separate windows, so that a replay's pieces
    are sequences. A memory that computes every step from its own window says False: its pieces are
    single steps, which give the most varied minibatches."""

    @abstractmethod
    def initial_carry(self, batch_size: int) -> Carry:
        """The carry before an episode's first observation; leaves `[batch_size, ...]`."""

    @abstractmethod
    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """Unrolls over T steps.

        Args:
            x: `[T, B, D]` features of each step.
            carry: the carry that the previous step left; leaves `[B, ...]`.
            reset: `[T, B]` bool, true where x[t] is the first of its episode. There the initial
                carry replaces the carry before x[t] is read.
        Returns:
            `[T, B, H]` features, and the carry after step T - 1.
        """

    def absorb(self, x: Tensor, carry: Carry, reset: Tensor) -> Carry:
        """The carry after T steps, without the outputs; same arguments as `forward`."""
        return self.forward(x, carry, reset)[1]

    def metrics(self, carry: Carry) -> dict[str, float | Tensor]:
        """Measurements of the memory, logged as `memory_NAME`: numbers, or scalars on the device.
        The names must be the same each time.

        Args:
            carry: the carry that acting left at the end of a segment; leaves `[B, ...]`.
        """
        return {}

    def array_step(self, rows: int) -> ArrayStep | None:
        """The memory's step in NumPy for `rows` environments, with the weights as they are now; the
        collector acts with it and checks it against `forward`. None: acting is `forward`."""
        return None

    def __call__(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """Calls `forward`, with types."""
        out: tuple[Tensor, Carry] = super().__call__(x, carry, reset)
        return out


def clear(carry: Carry, reset: Tensor) -> Carry:
    """The carry with zeros where `reset` `[B]` is true; no gradient passes there."""

    def clear_leaf(leaf: Tensor) -> Tensor:
        return leaf.masked_fill(reset.view(-1, *[1] * (leaf.dim() - 1)), 0.0)

    return tree_map(clear_leaf, carry)


class NoMemory(Memory):
    """The identity: the agent acts on the current observation only."""

    receptive_field = 1

    def __init__(self, features_in: int) -> None:
        super().__init__()
        self.features_in = self.features = features_in

    def initial_carry(self, batch_size: int) -> Carry:
        """An empty carry."""
        return ()

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """Returns `x` itself."""
        return x, carry

    def array_step(self, rows: int) -> ArrayStep | None:
        """See `Memory`."""
        return NoStep() if has_arrays(self, NoMemory) else None


OneCarry = TypeVar("OneCarry", bound=Carry)
"""The carry of one memory: a tensor, or a tuple of them."""


class StepMemory(Memory, Generic[OneCarry]):
    """A memory written as a single step. A new idea takes ten lines:

        @retain.register_memory("fading")
        class Fading(retain.StepMemory):
            def __init__(self, features_in: int, *, hidden: int, rate: float = 0.1) -> None:
                super().__init__()
                self.features_in, self.features, self.rate = features_in, hidden, rate
                self.read = nn.Linear(features_in, hidden)

            def initial_carry(self, batch_size):
                return torch.zeros(batch_size, self.features)

            def step(self, x, carry):
                carry = carry + self.rate * (torch.tanh(self.read(x)) - carry)
                return carry, carry

    The class handles resets: `step` never sees the carry of another episode. Such a memory trains
    with every algorithm unchanged; to make it fast, override `forward` with an unroll that equals
    this loop (`retain.doctor.check_memory` compares the two). For a type checker, name the type of
    your carry: `retain.StepMemory[Tensor]`.
    """

    @abstractmethod
    def step(self, x: Tensor, carry: OneCarry) -> tuple[Tensor, OneCarry]:
        """One step of B environments: `[B, D]` and a carry to `[B, H]` and the next carry."""

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, H]` and the carry after the last step, one step at a time."""
        first = self.initial_carry(x.shape[1])
        outputs: list[Tensor] = []
        for x_t, reset_t in zip(x.unbind(0), reset.unbind(0), strict=True):
            carry = start_again(carry, first, reset_t)
            output, carry = self.step(x_t, carry)  # type: ignore[arg-type]
            outputs.append(output)
        return torch.stack(outputs), carry


def start_again(carry: Carry, first: Carry, reset: Tensor) -> Carry:
    """The carry, replaced by `first` where `reset` `[B]` is true; no gradient reaches the old carry
    there, whatever it holds."""

    def replace_leaf(leaf: Tensor, new: Tensor) -> Tensor:
        mask = reset.view(-1, *[1] * (leaf.dim() - 1))
        return torch.where(mask, new.to(leaf.dtype).to(leaf.device), leaf)

    return tree_map(replace_leaf, carry, first)


def step_loop(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
    """The slow reference, with one call per step. Every fused unroll must equal it."""
    outputs = []
    for x_t, reset_t in zip(x.unbind(0), reset.unbind(0), strict=True):
        output, carry = memory(x_t.unsqueeze(0), carry, reset_t.unsqueeze(0))
        outputs.append(output)
    return torch.cat(outputs), carry
