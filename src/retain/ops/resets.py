"""Sets values to zero at resets, exactly and fast.

A product with 0 would keep non-finite values, and `masked_fill` takes a CPU ten times as long as an
operation on whole vectors. The bitwise "and" of any number with 0 is 0.
"""

from typing import Any

import torch
from torch import Tensor

BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def kept_bits(reset: Tensor, like: Tensor) -> Tensor:
    """Masks for `zero_resets_`: all bits set where `reset` `[...]` is false and no bits where it is
    true, as integers `[..., 1, ...]` that broadcast to `like` `[..., *]`, float32 or float64."""
    bits = reset.to(BITS[like.dtype]) - 1
    return bits.view(*reset.shape, *[1] * (like.dim() - reset.dim()))


def zero_resets_(x: Tensor, bits: Tensor) -> Tensor:
    """Sets `x` to zero in place where `bits` is zero; hidden from autograd."""
    x.view(bits.dtype).bitwise_and_(bits)
    return x


def without_resets(x: Tensor, bits: Tensor) -> Tensor:
    """`x` with zeros where `bits` is zero; hidden from autograd."""
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
    if torch.compiler.is_compiling():  # bits of floats are no operation of a portable graph
        return x.masked_fill(gone.view(*gone.shape, *[1] * (x.dim() - gone.dim())), 0.0)
    out: Tensor = _Cleared.apply(x, kept_bits(gone, x))  # type: ignore[no-untyped-call]
    return out
