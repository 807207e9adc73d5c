"""Several MLPs of one shape at once, with the derivative written out.

At the sizes of model-free RL, the overhead of an operation exceeds its arithmetic. So a whole stack
of MLPs is one node of the autograd graph. Small MLPs share one batched product per layer; large
ones run one by one in the faster library.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from retain.ops.products import is_large, large_product, matmul


class _Tanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2x) - 1, accurate to 2e-7: on a CPU, torch's vectorised sigmoid is nine
    times faster than its tanh, which would otherwise take a third of an update."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = _from_sigmoid((2 * x).sigmoid_())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        out: Tensor = torch.ops.aten.tanh_backward(gradient, y)
        return out


MINUS_ONE = torch.tensor(-1.0)


def _from_sigmoid(sigmoid: Tensor) -> Tensor:
    """2 s - 1, in one operation, without creating a tensor for each constant."""
    return torch.add(MINUS_ONE, sigmoid, alpha=2)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent; gives the same numbers with and without a gradient."""
    if x.is_cuda or torch.compiler.is_compiling():
        return torch.tanh(x)
    if torch.is_grad_enabled():
        out: Tensor = _Tanh.apply(x)  # type: ignore[no-untyped-call]
        return out
    return _from_sigmoid((2 * x).sigmoid_())


def _layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """One layer for several MLPs `[K, N, in]` or for one `[N, in]`."""
    if x.dim() == 2 and is_large(x, x.shape[0], weight.numel()):
        return large_product(x, weight, bias[0], activation)
    product: Any = torch.baddbmm if x.dim() == 3 else torch.addmm
    if activation == "tanh" and not x.is_cuda:
        return _from_sigmoid(product(bias, x, weight, beta=2, alpha=2).sigmoid_())
    y: Tensor = product(bias, x, weight)
    return y if activation == "none" else y.relu_() if activation == "relu" else y.tanh_()


def _forwards(x: Tensor, parameters: Sequence[Tensor], activations: Sequence[str]) -> list[Tensor]:
    """Every layer's output."""
    outputs: list[Tensor] = []
    for layer, activation in enumerate(activations):
        x = _layer(x, parameters[2 * layer], parameters[2 * layer + 1], activation)
        outputs.append(x)
    return outputs


def _backwards(
    gradient: Tensor,
    kept: Sequence[Tensor],
    activations: Sequence[str],
    into_x: bool,
    learns: bool,
) -> list[Tensor | None]:
    """Gradients with respect to x and each layer's weight and bias.

    Args:
        kept: x, every layer's output, every layer's weight.
        learns: whether the gradients of the parameters are needed.
    """
    depth = len(activations)
    found: list[Tensor | None] = [None] * (1 + 2 * depth)
    for layer in reversed(range(depth)):
        if activations[layer] == "tanh":
            gradient = torch.ops.aten.tanh_backward(gradient, kept[layer + 1])
        elif activations[layer] == "relu":
            gradient = torch.ops.aten.threshold_backward(gradient, kept[layer + 1], 0)
        if learns:
            found[1 + 2 * layer] = matmul(kept[layer].mT, gradient)
            found[2 + 2 * layer] = gradient.sum(-2, keepdim=True)
        if layer or into_x:
            gradient = matmul(gradient, kept[1 + depth + layer].mT)
    found[0] = gradient if into_x else None
    return found


def _together(each: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(each)) if len(each) > 1 else each[0].unsqueeze(0)


class _Layers(torch.autograd.Function):
    """Several MLPs with batched products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activations: Sequence[str], *parameters: Tensor) -> Tensor:
        outputs = _forwards(x, parameters, activations)
        ctx.activations = activations
        ctx.save_for_backward(x, *outputs, *parameters[::2])
        return outputs[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        into_x, _, learns, *_ = ctx.needs_input_grad
        of_x, *rest = _backwards(gradient, ctx.saved_tensors, ctx.activations, into_x, learns)
        return of_x, None, *rest


class _LayersApart(torch.autograd.Function):
    """Several MLPs one by one. `tensors` holds the rows of each, then the parameters of all."""

    @staticmethod
    def forward(
        ctx: Any, activations: Sequence[str], count: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        parameters = tensors[count:]
        kept: list[Tensor] = []
        ends: list[Tensor] = []
        for k, x in enumerate(tensors[:count]):
            own = [parameter[k] for parameter in parameters]
            outputs = _forwards(x, own, activations)
            kept += [x, *outputs, *own[::2]]
            ends.append(outputs[-1])
        ctx.activations, ctx.count = activations, count
        ctx.save_for_backward(*kept)
        return tuple(ends)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        _, _, *wanted = ctx.needs_input_grad
        kept, size = ctx.saved_tensors, 1 + 2 * len(ctx.activations)
        each = [
            _backwards(
                gradient, kept[k * size : (k + 1) * size], ctx.activations, wanted[k],
                wanted[ctx.count],
            )
            for k, gradient in enumerate(gradients)
        ]  # fmt: skip
        of_x, *rest = zip(*each, strict=True)
        return None, None, *of_x, *(None if one[0] is None else _together(one) for one in rest)


def _plain(x: Tensor, parameters: Sequence[Tensor], activations: Sequence[str]) -> Tensor:
    """The layers in torch's own operations, whose derivatives a compiler knows."""
    for layer, activation in enumerate(activations):
        weight, bias = parameters[2 * layer], parameters[2 * layer + 1]
        x = torch.matmul(x, weight) + bias
        x = x if activation == "none" else x.relu() if activation == "relu" else x.tanh()
    return x


def layers_apart(
    xs: Sequence[Tensor], activations: Sequence[str], parameters: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Computes K MLPs as `layers` does, but one by one, which is faster for large ones.

    Args:
        xs: K tensors `[N, in]`
    Returns:
        K tensors `[N, out]`
    """
    if torch.compiler.is_compiling():
        each = zip(xs, zip(*(p.unbind(0) for p in parameters), strict=True), strict=True)
        return tuple(_plain(x, own, activations) for x, own in each)
    if torch.is_grad_enabled():
        out: tuple[Tensor, ...] = _LayersApart.apply(  # type: ignore[no-untyped-call]
            activations, len(xs), *xs, *parameters
        )
        return out
    each = zip(xs, zip(*parameters, strict=True), strict=True)
    return tuple(_forwards(x, own, activations)[-1] for x, own in each)


def layers(
    x: Tensor, activations: Sequence[str], parameters: Sequence[Tensor], *, widest: int
) -> Tensor:
    """Computes K MLPs; gives the same numbers with and without a gradient.

    Args:
        x: `[K, N, in]`
        activations: activation of each layer: "tanh", "relu" or "none".
        parameters: each layer's weights `[K, in, out]` and biases `[K, 1, out]`.
        widest: largest in * out of any layer.
    Returns:
        `[K, N, out]`
    """
    if is_large(x, x.shape[1], widest):
        return _together(layers_apart(x.unbind(0), activations, parameters))
    if torch.compiler.is_compiling():
        return _plain(x, parameters, activations)
    if torch.is_grad_enabled():
        out: Tensor = _Layers.apply(x, activations, *parameters)  # type: ignore[no-untyped-call]
        return out
    return _forwards(x, parameters, activations)[-1]
