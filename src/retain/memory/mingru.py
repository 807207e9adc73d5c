"""A gated linear recurrence in a block: quick, and with horizons that are spread from the start."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError
from retain.memory.base import Memory
from retain.ops import causal_convolution, linear_recurrence
from retain.ops.products import linear
from retain.types import Carry, tree_leaves


def spread_horizons(count: int, shortest: float, longest: float) -> Tensor:
    """`[count]` gate biases b for which sigmoid(b) = 1 / h, the horizons h evenly spaced in
    logarithm (after Tallec and Ollivier 2018, arXiv:1804.11188, who draw them at random).

    Raises:
        UsageError: they are not 1 < shortest <= longest.
    """
    if not 1 < shortest <= longest:
        raise UsageError(
            f"horizons are {shortest:g} to {longest:g} (expected 1 < shortest <= longest)"
        )
    horizon = torch.logspace(math.log10(shortest), math.log10(longest), count)
    return -torch.log(horizon - 1)


class LocalMixing(nn.Module):
    """`e = W x + b`, and beside it the last few steps of it: `e + silu(convolution of e)`."""

    def __init__(self, features_in: int, hidden: int, kernel: int) -> None:
        super().__init__()
        if kernel < 1:
            raise UsageError(f"kernel is {kernel} (expected at least 1)")
        self.embed = nn.Linear(features_in, hidden)
        self.weight = nn.Parameter(torch.randn(kernel, hidden) / math.sqrt(kernel))

    def initial(self, batch_size: int) -> Tensor:
        """`[batch_size, kernel - 1, hidden]`, no steps yet."""
        kernel, hidden = self.weight.shape
        return self.weight.new_zeros(batch_size, kernel - 1, hidden)

    def forward(self, x: Tensor, before: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, B, D]` to `[T, B, H]`, and the steps to hand over."""
        x = linear(x, self.embed.weight, self.embed.bias)
        mixed, after = causal_convolution(input=x, weight=self.weight, reset=reset, before=before)
        return x + F.silu(mixed), after


class GatedRecurrence(nn.Module):
    """h' = (1 - z) h + z n,  y = x + W_y (h' silu(o));  z, n, o from the normalised input x."""

    def __init__(self, hidden: int, shortest: float, longest: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.gates = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        with torch.no_grad():
            self.gates.bias[:hidden] = spread_horizons(hidden, shortest, longest)

    def forward(self, x: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, B, H]` to the same, and the state `[B, H]` after the last step."""
        gate, candidate, open_ = linear(self.norm(x), self.gates.weight, self.gates.bias).chunk(
            3, -1
        )
        gate = gate.sigmoid()
        h = linear_recurrence(decay=1 - gate, input=gate * candidate, reset=reset, initial=state)
        return x + linear(h * F.silu(open_), self.out.weight, self.out.bias), h[-1]


class MinGRU(Memory):
    """Blocks of a gated recurrence whose gates read the input alone, behind a short convolution.

    z, n, o = W LN(x) + b,  h' = (1 - sigmoid(z)) h + sigmoid(z) n,  y = x + W_y (h' silu(o))

    The recurrence is the minGRU of Feng et al. 2024 (arXiv:2410.01201); since no gate reads the
    state, all steps are worked out together (`retain.ops.linear_recurrence`). The convolution over
    the last steps tells their order, which the recurrence alone learns badly, and the biases of z
    give each channel a horizon of its own from the start, so that some hold for hundreds of steps.
    The carry is (states `[B, layers, H]`, the convolution's steps `[B, kernel - 1, H]`).

    Args:
        features_in: D, width of the input.
        hidden: H, width of the state and of the output.
        layers: blocks on top of each other.
        kernel: steps that the convolution sees, the current one included.
        shortest: horizon of the quickest channel at first, in steps.
        longest: horizon of the slowest.
    Raises:
        UsageError: no such kernel or horizons.
    """

    receptive_field = None
    blocks: list[GatedRecurrence]

    def __init__(
        self,
        features_in: int,
        *,
        hidden: int,
        layers: int = 1,
        kernel: int = 4,
        shortest: float = 2.0,
        longest: float = 500.0,
    ) -> None:
        super().__init__()
        self.features_in, self.features = features_in, hidden
        self.local = LocalMixing(features_in, hidden, kernel)
        self.blocks = nn.ModuleList(  # type: ignore[assignment]
            GatedRecurrence(hidden, shortest, longest) for _ in range(layers)
        )

    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros."""
        before = self.local.initial(batch_size)
        return before.new_zeros(batch_size, len(self.blocks), self.features), before

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, H]` and the carry after the last step."""
        states, before = tree_leaves(carry)
        x, before = self.local.forward(x, before, reset)
        ends = []
        for layer, block in enumerate(self.blocks):
            x, end = block.forward(x, states[:, layer], reset)
            ends.append(end)
        return x, (torch.stack(ends, dim=1), before)

    @torch.no_grad()
    def metrics(self, carry: Carry) -> dict[str, float]:
        """The geometric mean of the channels' horizons where the input says nothing."""
        bias = torch.cat([block.gates.bias[: self.features] for block in self.blocks])
        return {"horizon": float((1 + (-bias).exp()).log().mean().exp())}
