"""Several MLPs of one shape at once: actor and critic, or an ensemble of critics."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import unknown


class _Tanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2x) - 1, to 2e-7: torch's vectorised sigmoid is nine times quicker on a
    CPU than its tanh, which would otherwise be a third of an update."""

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


def _from_sigmoid(sigmoid: Tensor) -> Tensor:
    """2 s - 1, in one operation."""
    return torch.rsub(sigmoid, -1, alpha=-2)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, the same numbers with and without a gradient."""
    if x.is_cuda:
        return torch.tanh(x)
    if torch.is_grad_enabled():
        out: Tensor = _Tanh.apply(x)  # type: ignore[no-untyped-call]
        return out
    return _from_sigmoid((2 * x).sigmoid_())


class _TanhLayers(torch.autograd.Function):
    """tanh(x W + b) for a stack of layers, with half the operations of its parts: the product
    doubles its result for free, and the derivative is written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = _tanh_layers(x, weight, bias)
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight, y = ctx.saved_tensors
        inner = torch.ops.aten.tanh_backward(gradient, y)
        into_x = torch.bmm(inner, weight.mT) if ctx.needs_input_grad[0] else None
        return into_x, torch.bmm(x.mT, inner), inner.sum(1, keepdim=True)


def _tanh_layers(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _from_sigmoid(torch.baddbmm(bias, x, weight, beta=2, alpha=2).sigmoid_())


def tanh_layers(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """tanh of K linear layers at once, the same numbers with and without a gradient.

    Args:
        x: `[K, N, in]`
        weight: `[K, in, out]`
        bias: `[K, 1, out]`
    Returns:
        `[K, N, out]`
    """
    if x.is_cuda:
        return torch.tanh(torch.baddbmm(bias, x, weight))
    if torch.is_grad_enabled():
        out: Tensor = _TanhLayers.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _tanh_layers(x, weight, bias)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "silu": F.silu,
}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The function called `name`; UsageError with the nearest name when there is none."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


class StackedMLP(nn.Module):
    """K MLPs of one shape, evaluated as one batched product a layer.

    Nothing is shared between them: weights are stacked `[K, in, out]`, which divides the number of
    operations by K, and at these sizes an operation costs more than its arithmetic.

    Args:
        count: K
        out: width of a last layer without activation; None ends with the last hidden layer.
        init: "orthogonal" with gain sqrt 2 and zero biases (on-policy custom), or "uniform" within
            1 / sqrt(in), torch's own for linear layers (off-policy custom).
    """

    def __init__(
        self,
        count: int,
        features_in: int,
        hidden: Sequence[int],
        activation: str,
        *,
        out: int | None = None,
        init: Literal["orthogonal", "uniform"] = "orthogonal",
    ) -> None:
        super().__init__()
        widths = [features_in, *hidden, *([] if out is None else [out])]
        self.count, self.features = count, widths[-1]
        self.activation = activation_function(activation)
        self.depth, self.linear_end = len(widths) - 1, out is not None
        for layer, (wide_in, wide_out) in enumerate(pairwise(widths)):
            weight, bias = torch.empty(count, wide_in, wide_out), torch.zeros(count, 1, wide_out)
            if init == "orthogonal":
                for one in weight:
                    nn.init.orthogonal_(one, sqrt(2))
            else:
                nn.init.uniform_(weight, -1 / sqrt(wide_in), 1 / sqrt(wide_in))
                nn.init.uniform_(bias, -1 / sqrt(wide_in), 1 / sqrt(wide_in))
            self.register_parameter(f"weight_{layer}", nn.Parameter(weight))
            self.register_parameter(f"bias_{layer}", nn.Parameter(bias))

    def stacked(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """`[K, N, D]` to `[K, N, features]`.

        Args:
            frozen: let the gradient pass through to `x`, but reach none of the parameters.
        """
        named = self._parameters
        for layer in range(self.depth):
            weight: Tensor = named[f"weight_{layer}"]  # type: ignore[assignment]
            bias: Tensor = named[f"bias_{layer}"]  # type: ignore[assignment]
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            if self.linear_end and layer == self.depth - 1:
                x = torch.baddbmm(bias, x, weight)
            elif self.activation is tanh:
                x = tanh_layers(x, weight, bias)
            else:
                x = self.activation(torch.baddbmm(bias, x, weight))
        return x

    def forward(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """`[..., D]`, the same input for all, to `[K, ..., features]`."""
        lead, width = x.shape[:-1], x.shape[-1]
        rows = x.reshape(1, -1, width).expand(self.count, -1, width)
        return self.stacked(rows, frozen=frozen).view(self.count, *lead, -1)


class PairMLP(StackedMLP):
    """Actor's and critic's MLPs, which may read different features."""

    def __init__(self, features_in: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__(2, features_in, hidden, activation)

    def forward(  # type: ignore[override]
        self, actor_in: Tensor, critic_in: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two `[..., D]` (the same tensor if the input is shared) to two `[..., features]`."""
        lead, width = actor_in.shape[:-1], actor_in.shape[-1]
        if actor_in is critic_in:
            x = actor_in.reshape(1, -1, width).expand(2, -1, width)
        else:
            x = torch.stack((actor_in.reshape(-1, width), critic_in.reshape(-1, width)))
        actor, critic = self.stacked(x).unbind(0)
        return actor.view(*lead, -1), critic.view(*lead, -1)
