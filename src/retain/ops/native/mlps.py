"""Stacks of MLPs: all layers of all MLPs in one call forward and one backward.

In a graph of torch.compile each of these calls is one operation, which the compiler does not look
into.
"""

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


def _backward(
    gradient: Tensor,
    x: Tensor,
    activations: tuple[str, ...],
    parameters: Sequence[Tensor],
    outputs: Sequence[Tensor],
    into_x: bool,
    learns: bool,
) -> list[Tensor]:
    """Gradients with respect to x and to each parameter, those of them that are wanted."""
    widths, work = _shape(x, parameters)
    gradient, deltas = gradient.contiguous(), [torch.empty_like(y) for y in outputs]
    of_x = [x.new_empty(x.shape)] if into_x else []
    of_parameters = [torch.empty_like(p) for p in parameters] if learns else []
    library().mlp_backward(
        *x.shape[:2], len(activations), *_constants(widths, activations), _pointers_within(x),
        pointers(parameters[::2]), pointers(outputs), _pointers_within(gradient),
        pointers(deltas), _pointers_within(of_x[0]) if into_x else None,
        pointers(of_parameters) if learns else None, threads_for(work),
    )  # fmt: skip
    return of_x + of_parameters


def _of_each(
    found: Sequence[Tensor], depth: int, into_x: bool, learns: bool
) -> tuple[Tensor | None, list[Tensor | None]]:
    """What `_backward` found, with None for what was not wanted."""
    of_parameters: list[Tensor | None] = []
    of_parameters += found[into_x:] if learns else [None] * 2 * depth
    return found[0] if into_x else None, of_parameters


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
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        found = _backward(
            gradient, x, ctx.activations, kept[: 2 * depth], kept[2 * depth :], *wanted
        )
        of_x, of_parameters = _of_each(found, depth, *wanted)
        return of_x, None, *of_parameters


# Not torch.library.custom_op, whose checks of each call cost two thirds of what a small MLP does.
# They are not needed: every result is a new tensor, and no argument changes.
TAGS = torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order
torch.library.define(
    "retain::mlp", "(Tensor x, str activations, Tensor[] parameters) -> Tensor[]", tags=TAGS
)
torch.library.define(
    "retain::mlp_backward",
    "(Tensor gradient, Tensor x, str activations, Tensor[] parameters, Tensor[] outputs, "
    "bool into_x, bool learns) -> Tensor[]",
    tags=TAGS,
)


@torch.library.impl("retain::mlp", "CPU")
def _traced(x: Tensor, activations: str, parameters: Sequence[Tensor]) -> list[Tensor]:
    """`_forward` as an operation of a graph; the activations are joined by spaces."""
    return _forward(_rows(x), tuple(activations.split()), parameters)


def _like(x: Tensor, activations: str, parameters: Sequence[Tensor]) -> list[Tensor]:
    return [x.new_empty(*x.shape[:2], weight.shape[-1]) for weight in parameters[::2]]


@torch.library.impl("retain::mlp_backward", "CPU")
def _traced_backward(
    gradient: Tensor,
    x: Tensor,
    activations: str,
    parameters: Sequence[Tensor],
    outputs: Sequence[Tensor],
    into_x: bool,
    learns: bool,
) -> list[Tensor]:
    """`_backward` as an operation of a graph."""
    names = tuple(activations.split())
    return _backward(gradient, _rows(x), names, parameters, outputs, into_x, learns)


def _backward_like(*given: Any) -> list[Tensor]:
    _, x, _, parameters, _, into_x, learns = given
    wanted = [*([x] if into_x else []), *(parameters if learns else [])]
    return [one.new_empty(one.shape) for one in wanted]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, ctx.activations, parameters = inputs
    ctx.save_for_backward(x, *parameters, *output)


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    (x, *kept), depth = ctx.saved_tensors, len(gradients)
    parameters, outputs = kept[: 2 * depth], kept[2 * depth :]
    wanted = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2])
    found = torch.ops.retain.mlp_backward.default(
        gradients[-1], x, ctx.activations, parameters, outputs, *wanted
    )
    of_x, of_parameters = _of_each(found, depth, *wanted)
    return of_x, None, of_parameters


torch.library.register_fake("retain::mlp", _like)
torch.library.register_fake("retain::mlp_backward", _backward_like)
torch.library.register_autograd("retain::mlp", _differentiate, setup_context=_keep)


def _rows(x: Tensor) -> Tensor:
    """x, with whole rows; it may stay expanded over the first dimension."""
    return x if x[0].is_contiguous() else x.contiguous()


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
    if torch.compiler.is_compiling():
        traced: Tensor = torch.ops.retain.mlp.default(x, " ".join(activations), parameters)[-1]
        return traced
    x = _rows(x)
    if torch.is_grad_enabled():
        out: Tensor = _MLP.apply(x, tuple(activations), *parameters)  # type: ignore[no-untyped-call]
        return out
    return _forward(x, tuple(activations), parameters)[-1]
