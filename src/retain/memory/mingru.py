"""A gated linear recurrence in blocks: fast, and with widely spread horizons from the start."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.memory.arrays import ArrayStep, GatedBlocks, has_arrays
from retain.memory.base import Memory
from retain.memory.horizons import spread_horizons
from retain.memory.local import LocalMixing
from retain.memory.registry import register_memory
from retain.ops import gated_recurrence
from retain.ops.products import linear
from retain.ranges import Log
from retain.types import Carry


class GatedBlock(nn.Module):
    """y = x + h silu(o),  where h is a recurrence gated by z;  z, o, n = W LN(x) + b."""

    def __init__(self, hidden: int, shortest: float, longest: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.gates = nn.Linear(hidden, 3 * hidden)
        with torch.no_grad():
            self.gates.bias[:hidden] = spread_horizons(hidden, shortest, longest)

    def forward(self, x: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, B, H]` and the state before `[B, H]` to `[T, B, H]` and the last state."""
        gates = linear(self.norm.forward(x), self.gates.weight, self.gates.bias)
        y, end = gated_recurrence(gates=gates, reset=reset, initial=state)
        return x + y, end

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` for one step `[B, H]` in the same episode as the state."""
        gates = F.linear(self.norm.forward(x), self.gates.weight, self.gates.bias)
        z, o, n = gates.to(state.dtype).chunk(3, -1)
        state = torch.lerp(state, n, z.sigmoid())
        return torch.addcmul(x, state, F.silu(o)), state


@register_memory("mingru")
class MinGRU(Memory):
    """Blocks of a gated recurrence whose gates read only the input, behind a short convolution.

    z, o, n = W LN(x) + b,  h' = (1 - sigmoid(z)) h + sigmoid(z) n,  y = x + h' silu(o)

    The last block's y is normalised, so that it learns at the learning rates of an LSTM.

    The recurrence is the minGRU of Feng et al. 2024 (arXiv:2410.01201). No gate reads the state, so
    all steps are computed together (`retain.ops.gated_recurrence`). The convolution over the last
    steps encodes their order, which the recurrence alone learns badly. The biases of z give each
    channel its own horizon from the start, so that some channels hold for hundreds of steps. The
    carry is `[B, layers + kernel - 1, H]`: each block's state, then the convolution's steps.

    Args:
        features_in: D, width of the input.
        hidden: H, width of the state and of the output.
        layers: number of stacked blocks.
        kernel: steps that the convolution sees, including the current one.
        shortest: initial horizon of the fastest channel, in steps.
        longest: initial horizon of the slowest channel, in steps.
    Raises:
        UsageError: the kernel or a horizon is impossible.
    """

    receptive_field = None
    blocks: list[GatedBlock]

    def __init__(
        self,
        features_in: int,
        *,
        hidden: int,
        layers: int = 1,
        kernel: int = 4,
        shortest: float = 2.0,
        longest: Annotated[float, Log(50, 2000)] = 500.0,
    ) -> None:
        super().__init__()
        self.features_in, self.features = features_in, hidden
        self.rows = layers + kernel - 1
        self.local = LocalMixing(features_in, hidden, kernel)
        self.blocks = nn.ModuleList(  # type: ignore[assignment]
            GatedBlock(hidden, shortest, longest) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)

    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros."""
        return (self.local.weight.new_zeros(batch_size, self.rows, self.features),)

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, H]` and the carry after the last step."""
        rows: Tensor = carry[0]  # type: ignore[assignment]
        layers = len(self.blocks)
        if len(x) == 1:
            return self._step(x[0], torch.where(reset.view(-1, 1, 1), 0.0, rows))
        x, before = self.local.forward(x, rows[:, layers:], reset)
        ends = []
        for block, state in zip(self.blocks, rows[:, :layers].unbind(1), strict=True):
            x, end = block.forward(x, state, reset)
            ends.append(end.unsqueeze(1))
        return self.norm.forward(x), (torch.cat((*ends, before), dim=1),)

    def _step(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Carry]:
        """One step `[B, D]` without a reset before it, in few operations."""
        layers = len(self.blocks)
        x, before = self.local.step(x, rows[:, layers:])
        ends = []
        for layer, block in enumerate(self.blocks):
            x, end = block.step(x, rows[:, layer])
            ends.append(end.unsqueeze(1))
        return self.norm.forward(x).unsqueeze(0), (torch.cat((*ends, before), dim=1),)

    def array_step(self, rows: int) -> ArrayStep | None:
        """See `Memory`."""
        if not has_arrays(self, MinGRU):
            return None
        embed, norm = self.local.embed, self.norm
        blocks = [
            (block.norm.weight, block.norm.bias, block.gates.weight, block.gates.bias)
            for block in self.blocks
        ]
        return GatedBlocks(
            (embed.weight, embed.bias), self.local.weight, blocks, (norm.weight, norm.bias), rows
        )

    @torch.no_grad()
    def metrics(self, carry: Carry) -> dict[str, float | Tensor]:
        """The geometric mean of the channels' horizons under silent input."""
        bias = torch.cat([block.gates.bias[: self.features] for block in self.blocks])
        return {"horizon": (1 + (-bias).exp()).log().mean().exp()}
