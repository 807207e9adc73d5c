"""Attention over the last steps of the episode, unrolled over whole sequences at once."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError
from retain.memory.base import Memory
from retain.memory.local import LocalMixing
from retain.memory.registry import register_memory
from retain.ops import banded_attention
from retain.ops.products import linear
from retain.ops.resets import zero_where
from retain.ranges import OneOf
from retain.types import Carry, tree_leaves


class AttentionBlock(nn.Module):
    """u = x + W A(LN(x)),  y = u + MLP(LN(u)):  A attends to the last L steps with G heads."""

    def __init__(self, hidden: int, length: int, heads: int) -> None:
        super().__init__()
        self.hidden, self.heads = hidden, heads
        self.norm, self.norm_out = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.asks = nn.Linear(hidden, 3 * hidden)
        self.merge = nn.Linear(hidden, hidden)
        # Each head's attention fades over a horizon of its own, unevenly. From zero, a bias that
        # points at a few of many steps would take longer to grow than most runs last.
        horizon = 2.0 * (length / 2.0) ** torch.linspace(0.0, 1.0, heads)
        fading = torch.arange(length) / horizon.unsqueeze(1)
        self.bias = nn.Parameter(torch.randn(heads, length) - fading)
        self.widen, self.narrow = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)

    def keys_and_values(self, x: Tensor) -> Tensor:
        """`[T, B, H]` to `[T, B, 2 H]`, for steps that make no query."""
        H = self.hidden
        return linear(self.norm(x), self.asks.weight[H:], self.asks.bias[H:])

    def forward(self, x: Tensor, before: Tensor, episode: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs, and the keys and values of all rows.

        Args:
            x: `[T, B, H]`
            before: `[L - 1, B, 2 H]` keys and values of the steps before the first one.
            episode: `[L - 1 + T, B]` episode number of each row.
        """
        T, B, H = x.shape
        asked = linear(self.norm(x), self.asks.weight, self.asks.bias)
        mine, new = torch.split(asked, [H, 2 * H], dim=-1)
        rows = torch.cat((before, new.to(before.dtype)))
        key, value = rows.view(*rows.shape[:2], 2, self.heads, -1).unbind(2)
        found = banded_attention(
            query=mine.view(T, B, self.heads, -1), key=key, value=value,
            episode=episode, bias=self.bias,
        )  # fmt: skip
        x = x + linear(found.flatten(2), self.merge.weight, self.merge.bias)
        wide = F.relu(linear(self.norm_out(x), self.widen.weight, self.widen.bias))
        return x + linear(wide, self.narrow.weight, self.narrow.bias), rows


@register_memory("attention")
class BandedAttention(Memory):
    """Pre-norm transformer blocks in which each step attends to itself and the L - 1 steps before,
    behind a short convolution.

    y_t = sum_d softmax_d(q_t k_{t-d} / sqrt(E) + b_d) v_{t-d}   (Vaswani et al. 2017,
    arXiv:1706.03762; a learned bias b by distance after Press et al. 2022, arXiv:2108.12409)

    The convolution shows the change over the last steps, e.g. a velocity, to heads that are still
    wide. Initially b fades over horizons from 2 to L steps, one for each head, with noise of
    deviation 1.

    The past is finite: the replay stores no carry and rebuilds it from the timeline. The carry is
    (valid `[B, L - 1]`, the convolution's steps `[B, kernel - 1, H]`, and for each layer the keys
    and values of the last steps `[B, L - 1, 2 H]`).

    Args:
        features_in: D, width of the input.
        hidden: H, width of the output.
        layers: number of stacked blocks; each reaches L - 1 steps further back.
        length: L, steps that a block sees, including the current one.
        heads: G, number of queries per step; they share the width.
        kernel: steps that the convolution sees, including the current one.
    Raises:
        UsageError: the heads do not divide the width evenly, or the length or the kernel is
            impossible.
    """

    blocks: list[AttentionBlock]

    def __init__(
        self,
        features_in: int,
        *,
        hidden: int,
        layers: int = 1,
        length: Annotated[int, OneOf(16, 32, 64, 128)] = 64,
        heads: int = 4,
        kernel: int = 4,
    ) -> None:
        super().__init__()
        if length < 1:
            raise UsageError(f"length is {length} (expected at least 1)")
        if heads < 1 or hidden % heads:
            raise UsageError(f"heads is {heads} (expected a divisor of memory_hidden, {hidden})")
        self.features_in, self.features, self.length = features_in, hidden, length
        self.receptive_field = layers * (length - 1) + kernel
        self.local = LocalMixing(features_in, hidden, kernel)
        self.blocks = nn.ModuleList(  # type: ignore[assignment]
            AttentionBlock(hidden, length, heads) for _ in range(layers)
        )

    def initial_carry(self, batch_size: int) -> Carry:
        """No steps yet."""
        zeros, kept = self.local.weight.new_zeros, self.length - 1
        kernel, hidden = self.local.weight.shape
        rows = (zeros(batch_size, kept, 2 * hidden) for _ in self.blocks)
        return zeros(batch_size, kept), zeros(batch_size, kernel - 1, hidden), *rows

    def _unroll(
        self, x: Tensor, carry: Carry, reset: Tensor, *, outputs: bool
    ) -> tuple[Tensor, Carry]:
        valid, near, *befores = tree_leaves(carry)
        T, kept = len(reset), self.length - 1
        number = reset.cumsum(0)
        # Nothing valid before the first step belongs to an episode before number 0.
        episode = torch.cat((torch.where(valid.T > 0, 0, -1), number))
        stays = episode[T:] == number[-1]
        x, near = self.local.forward(x, near, reset)
        after = []
        for layer, (block, before) in enumerate(zip(self.blocks, befores, strict=True), start=1):
            before = before.transpose(0, 1)
            if outputs or layer < len(self.blocks):
                x, rows = block.forward(x, before, episode)
            else:
                rows = torch.cat((before, block.keys_and_values(x)))
            tail = zero_where(rows[T : T + kept], ~stays)
            after.append(tail.transpose(0, 1))
        return x, (stays.T.to(valid.dtype), near, *after)

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, H]` and the carry after the last step."""
        return self._unroll(x, carry, reset, outputs=True)

    def absorb(self, x: Tensor, carry: Carry, reset: Tensor) -> Carry:
        """See `Memory.absorb`; the last layer makes no queries."""
        return self._unroll(x, carry, reset, outputs=False)[1]

    @torch.no_grad()
    def metrics(self, carry: Carry) -> dict[str, float | Tensor]:
        """The distance biases' attention under equal contents: the heads' entropy in nats, from 0
        to log L, and the mean number of steps that it lies back."""
        log_weight = torch.cat([block.bias for block in self.blocks]).log_softmax(-1)
        weight = log_weight.exp()
        distance = torch.arange(self.length, device=weight.device, dtype=weight.dtype)
        return {
            "attention_entropy": -(weight * log_weight).sum(-1).mean(),
            "attention_distance": (weight * distance).sum(-1).mean(),
        }
