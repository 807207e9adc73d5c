"""Zeros at resets, exact and quick.

A product with 0 would keep what is not finite, and `masked_fill` takes a CPU ten times as long as
an operation on whole vectors. The bits of a number and 0 are those of 0, whatever the number was.
"""

from typing import Any

import torch
from torch import Tensor

BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def kept_bits(reset: Tensor, like: Tensor) -> Tensor:
    """For `zero_resets_`: all bits where `reset` `[...]` is false and none where it is true, as
    integers `[..., 1, ...]` that broadcast to `like` `[..., *]`, float32 or float64."""
    bits = reset.to(BITS[like.dtype]) - 1
    return bits.view(*reset.shape, *[1] * (like.dim() - reset.dim()))


def zero_resets_(x: Tensor, bits: Tensor) -> Tensor:
    """Sets `x` to zero where `bits` says, in place; not for autograd to see."""
    x.view(bits.dtype).bitwise_and_(bits)
    return x


def without_resets(x: Tensor, bits: Tensor) -> Tensor:
    """`x` with zeros where `bits` says; not for autograd to see."""
    return torch.bitwise_and(x.view(bits.dtype), bits).view(x.dtype)


class _Cleared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor) -> Tensor:
        ctx.save_for_backward(bits)
        return without_resets(x, bits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return without_resets(gradient, *ctx.saved_tensors), None


def zero_where(x: Tensor, gone: Tensor) -> Tensor:
    """`x` `[..., *]` with zeros where `gone` `[...]` is true; no gradient passes there."""
    out: Tensor = _Cleared.apply(x, kept_bits(gone, x))  # type: ignore[no-untyped-call]
    return out
