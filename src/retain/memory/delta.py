"""A matrix memory of keys and values that corrects what it stored before."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError
from retain.memory.base import Memory
from retain.memory.horizons import spread_horizons
from retain.memory.local import LocalMixing
from retain.memory.registry import register_memory
from retain.ops import gated_delta
from retain.ops.products import linear
from retain.ranges import OneOf
from retain.types import Carry, tree_leaves


class DeltaBlock(nn.Module):
    """y = x + W_y (RMSNorm(S q) silu(o)):  S by the gated delta rule, G heads of width E."""

    def __init__(self, hidden: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads, self.inner = heads, heads * width
        self.norm = nn.LayerNorm(hidden)
        self.asks = nn.Linear(hidden, 4 * self.inner + 2 * heads)
        self.norm_out = nn.Parameter(torch.ones(width))
        self.out = nn.Linear(self.inner, hidden)
        with torch.no_grad():  # forgetting from a few steps to a few hundred
            self.asks.bias[-2 * heads : -heads] = -spread_horizons(heads, 8.0, 500.0)

    def forward(self, x: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, B, H]` to `[T, B, H]`, and the state `[B, G, E, E]` after the last step."""
        sizes = [self.inner] * 4 + [self.heads] * 2
        asked = linear(self.norm(x), self.asks.weight, self.asks.bias)
        *asks, open_, keep, rate = torch.split(asked, sizes, dim=-1)
        query, key, value = (y.reshape(*x.shape[:2], self.heads, -1) for y in asks)
        read, state = gated_delta(
            query=F.normalize(query, dim=-1), key=F.normalize(key, dim=-1), value=value,
            log_decay=F.logsigmoid(keep), rate=rate.sigmoid(), reset=reset, initial=state,
        )  # fmt: skip
        read = F.rms_norm(read, (read.shape[-1],), self.norm_out, 1e-2).flatten(2)
        return x + linear(read * F.silu(open_), self.out.weight, self.out.bias), state


@register_memory("delta")
class GatedDelta(Memory):
    """Blocks of the gated delta rule (Yang et al. 2024, arXiv:2412.06464) behind a convolution.

    S' = a (I - b k k^T) S + b k v^T,  read with q:  a fades every entry alike, and b replaces the
    value stored under the key k by v. The carry is (states `[B, layers, G, E, E]`, the
    convolution's steps `[B, kernel - 1, H]`).

    Args:
        features_in: D, width of the input.
        hidden: H, width of the output.
        layers: number of stacked blocks.
        heads: G, number of matrices in a block.
        width: E, width of a key and of a value.
        kernel: steps that the convolution sees, including the current one.
    Raises:
        UsageError: the number of heads, the width or the kernel is impossible.
    """

    receptive_field = None
    blocks: list[DeltaBlock]

    def __init__(
        self,
        features_in: int,
        *,
        hidden: int,
        layers: int = 1,
        heads: int = 4,
        width: Annotated[int, OneOf(16, 32, 64)] = 32,
        kernel: int = 4,
    ) -> None:
        super().__init__()
        if heads < 1 or width < 1:
            raise UsageError(f"heads and width are {heads} and {width} (expected at least 1)")
        self.features_in, self.features = features_in, hidden
        self.heads, self.width = heads, width
        self.local = LocalMixing(features_in, hidden, kernel)
        self.blocks = nn.ModuleList(  # type: ignore[assignment]
            DeltaBlock(hidden, heads, width) for _ in range(layers)
        )

    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros."""
        zeros = self.local.weight.new_zeros
        kernel, hidden = self.local.weight.shape
        state = zeros(batch_size, len(self.blocks), self.heads, self.width, self.width)
        return state, zeros(batch_size, kernel - 1, hidden)

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
    def metrics(self, carry: Carry) -> dict[str, float | Tensor]:
        """The geometric mean of the matrices' horizons under silent input, in steps."""
        kept = [block.asks.bias[-2 * self.heads : -self.heads] for block in self.blocks]
        return {"horizon": (1 + torch.cat(kept).exp()).log().mean().exp()}
