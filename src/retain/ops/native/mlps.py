"""Stacks of MLPs: all layers of all MLPs in one call forward and one backward."""

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from retain.ops.native.library import library, pointers, threads_for

CODES = {"none": 0, "relu": 1, "tanh": 2}


@cache
def _constants(widths: tuple[int, ...], activations: tuple[str, ...]) -> tuple[Any, Any]:
    codes = [CODES[name] for name in activations]
    return (ctypes.c_long * len(widths))(*widths), (ctypes.c_int * len(codes))(*codes)


def _pointers_within(x: Tensor) -> Any:
    """One for each of the first dimension, which may be expanded."""
    first, step = x.data_ptr(), x.stride(0) * x.element_size()
    return (ctypes.c_void_p * len(x))(*(first + k * step for k in range(len(x))))


def _shape(x: Tensor, parameters: Sequence[Tensor]) -> tuple[tuple[int, ...], int]:
    """Widths of the input and of each layer, and the number of multiplications."""
    widths = (x.shape[-1], *(weight.shape[-1] for weight in parameters[::2]))
    return widths, x.shape[0] * x.shape[1] * sum(a * b for a, b in pairwise(widths))


def _forward(x: Tensor, activations: tuple[str, ...], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Every layer's output."""
    (K, N, _), (widths, work) = x.shape, _shape(x, parameters)
    outputs = [x.new_empty(K, N, width) for width in widths[1:]]
    library().mlp_forward(
        K, N, len(activations), *_constants(widths, activations), _pointers_within(x),
        pointers(parameters), pointers(outputs), threads_for(work),
    )  # fmt: skip
    return outputs


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activations: tuple[str, ...], *parameters: Tensor) -> Tensor:
        outputs = _forward(x, activations, parameters)
        ctx.activations = activations
        ctx.save_for_backward(x, *parameters, *outputs)
        return outputs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, *kept), depth = ctx.saved_tensors, len(ctx.activations)
        parameters, outputs = kept[: 2 * depth], kept[2 * depth :]
        wanted, _, learns, *_ = ctx.needs_input_grad
        widths, work = _shape(x, parameters)
        gradient, deltas = gradient.contiguous(), [torch.empty_like(y) for y in outputs]
        into_x = x.new_empty(x.shape) if wanted else None
        into = [torch.empty_like(p) for p in parameters] if learns else []
        library().mlp_backward(
            *x.shape[:2], depth, *_constants(widths, ctx.activations), _pointers_within(x),
            pointers(parameters[::2]), pointers(outputs), _pointers_within(gradient),
            pointers(deltas), None if into_x is None else _pointers_within(into_x),
            pointers(into) if into else None, threads_for(work),
        )  # fmt: skip
        return into_x, None, *(into or [None] * 2 * depth)


def mlp(x: Tensor, activations: Sequence[str], parameters: Sequence[Tensor]) -> Tensor:
    """Computes K MLPs, like `ops.mlp.layers`.

    Args:
        x: `[K, N, in]`, float32 on a CPU; may be expanded over K.
        activations: activation of each layer: "tanh", "relu" or "none".
        parameters: each layer's weights `[K, in, out]` and biases `[K, 1, out]`.
    Returns:
        `[K, N, out]`
    Raises:
        NativeError: the kernels cannot be built.
    """
    parameters = [parameter.contiguous() for parameter in parameters]
    if not x[0].is_contiguous():
        x = x.contiguous()
    if torch.is_grad_enabled():
        out: Tensor = _MLP.apply(x, tuple(activations), *parameters)  # type: ignore[no-untyped-call]
        return out
    return _forward(x, tuple(activations), parameters)[-1]
