"""The last few steps mixed together: what several memories read instead of their bare input."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError
from retain.ops import causal_convolution
from retain.ops.products import linear


class LocalMixing(nn.Module):
    """`e = W x + b`, with its last few steps mixed in: `e + silu(convolution of e)`."""

    def __init__(self, features_in: int, hidden: int, kernel: int) -> None:
        super().__init__()
        if kernel < 1:
            raise UsageError(f"kernel is {kernel} (expected at least 1)")
        self.embed = nn.Linear(features_in, hidden)
        self.weight = nn.Parameter(torch.randn(kernel, hidden) / math.sqrt(kernel))

    def forward(self, x: Tensor, before: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, B, D]` and the steps before `[B, kernel - 1, H]` to `[T, B, H]` and the last
        steps."""
        x = linear(x, self.embed.weight, self.embed.bias)
        mixed, after = causal_convolution(input=x, weight=self.weight, reset=reset, before=before)
        return x + F.silu(mixed), after

    def step(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` for one step `[B, D]` in the same episode as the steps before."""
        x = F.linear(x, self.embed.weight, self.embed.bias)
        rows = torch.cat((before, x.unsqueeze(1)), dim=1)
        return x + F.silu((rows * self.weight).sum(1)), rows[:, 1:]
