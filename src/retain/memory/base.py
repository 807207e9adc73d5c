"""What every memory is: a function of a stream of features, a carry and explicit resets."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from retain.types import Carry, tree_map


class Memory(nn.Module, ABC):
    """Turns a stream of features into a stream of features that also know the past.

    The carry is an argument and a return value, never an attribute: a module holds parameters,
    a caller holds time. Acting is `forward` with T = 1, training is `forward` with T > 1, and one
    unroll equals two with the carry handed over.
    """

    features_in: int
    """Width D of the input."""
    features: int
    """Width H of the output."""
    receptive_field: int | None
    """Steps of the input that can influence an output, itself included; None = unbounded."""

    @abstractmethod
    def initial_carry(self, batch_size: int) -> Carry:
        """The carry before an episode's first observation; leaves `[batch_size, ...]`."""

    @abstractmethod
    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """Unrolls over T steps.

        Args:
            x: `[T, B, D]` features of each step.
            carry: what the previous step left; leaves `[B, ...]`.
            reset: `[T, B]` bool, true where x[t] is the first of its episode. The carry is
                replaced by the initial one there, before x[t] is read.
        Returns:
            `[T, B, H]` features, and the carry after step T - 1.
        """

    def absorb(self, x: Tensor, carry: Carry, reset: Tensor) -> Carry:
        """The carry after T steps, where nobody asks for the outputs; arguments as `forward`."""
        return self.forward(x, carry, reset)[1]

    def __call__(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`forward`, with its types."""
        out: tuple[Tensor, Carry] = super().__call__(x, carry, reset)
        return out


def clear(carry: Carry, reset: Tensor) -> Carry:
    """The carry with zeros where `reset` `[B]` is true; no gradient passes there."""

    def clear_leaf(leaf: Tensor) -> Tensor:
        return leaf.masked_fill(reset.view(-1, *[1] * (leaf.dim() - 1)), 0.0)

    return tree_map(clear_leaf, carry)


class NoMemory(Memory):
    """The identity: acts on the current observation only."""

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


def step_loop(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
    """The slow reference: one call per step. What every fused unroll must equal."""
    outputs = []
    for x_t, reset_t in zip(x.unbind(0), reset.unbind(0), strict=True):
        output, carry = memory(x_t.unsqueeze(0), carry, reset_t.unsqueeze(0))
        outputs.append(output)
    return torch.cat(outputs), carry
