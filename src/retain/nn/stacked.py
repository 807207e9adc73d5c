"""Several MLPs of one shape at once: actor and critic, or an ensemble of critics."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import unknown
from retain.ops import native
from retain.ops.mlp import layers, layers_apart, tanh
from retain.ops.products import is_large

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "silu": F.silu,
}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The activation function called `name`; UsageError with the nearest name if there is none."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


class StackedMLP(nn.Module):
    """K MLPs of one shape, evaluated as one batched product per layer.

    The MLPs share nothing. Their weights are stacked `[K, in, out]`, which divides the number of
    operations by K; at these sizes an operation costs more than its arithmetic.

    Args:
        count: K, number of MLPs.
        out: width of a final layer without activation; None ends with the last hidden layer.
        init: "orthogonal" with gain sqrt 2 and zero biases (the on-policy custom), or "uniform"
            within 1 / sqrt(in), torch's own for linear layers (the off-policy custom).
        kernels: "native" computes float32 on a CPU with the compiled kernels, for tanh and relu.
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
        kernels: native.Kernels = "torch",
    ) -> None:
        super().__init__()
        widths = [features_in, *hidden, *([] if out is None else [out])]
        self.count, self.features, self.kernels = count, widths[-1], kernels
        activation_function(activation)
        self.activations = [activation] * (len(widths) - 1)
        if out is not None:
            self.activations[-1] = "none"
        self.written_out = activation in ("tanh", "relu")
        self.widest = max((a * b for a, b in pairwise(widths)), default=0)
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

    def each_layer(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every layer's weights `[K, in, out]` and biases `[K, 1, out]`."""
        for layer in range(len(self.activations)):
            yield getattr(self, f"weight_{layer}"), getattr(self, f"bias_{layer}")

    def _own_kernels(self, x: Tensor) -> bool:
        return self.kernels == "native" and self.written_out and native.fits(x, in_graph=True)

    def stacked(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """`[K, N, D]` to `[K, N, features]`; fewer than K inputs are for the first MLPs.

        Args:
            frozen: let the gradient pass through to `x`, but reach none of the parameters.
        """
        parameters: list[Tensor] = [*self._parameters.values()]  # type: ignore[list-item]
        if frozen:
            parameters = [parameter.detach() for parameter in parameters]
        if len(x) < self.count:
            parameters = [parameter[: len(x)] for parameter in parameters]
        if parameters and self._own_kernels(x):
            return native.mlp(x, self.activations, parameters)
        if self.written_out and parameters:
            return layers(x, self.activations, parameters, widest=self.widest)
        for layer, name in enumerate(self.activations):
            y = torch.baddbmm(parameters[2 * layer + 1], x, parameters[2 * layer])
            x = y if name == "none" else ACTIVATIONS[name](y)
        return x

    def forward(self, x: Tensor, *, frozen: bool = False, count: int | None = None) -> Tensor:
        """`[..., D]`, the same input for all MLPs, to `[K, ..., features]`.

        Args:
            count: compute only that many of the MLPs, the first ones.
        """
        lead, width, count = x.shape[:-1], x.shape[-1], count or self.count
        rows = x.reshape(1, -1, width).expand(count, -1, width)
        return self.stacked(rows, frozen=frozen).view(count, *lead, -1)


class PairMLP(StackedMLP):
    """The actor's and the critic's MLPs, which may read different features."""

    def __init__(
        self,
        features_in: int,
        hidden: Sequence[int],
        activation: str,
        kernels: native.Kernels = "torch",
    ) -> None:
        super().__init__(2, features_in, hidden, activation, kernels=kernels)

    def forward(  # type: ignore[override]
        self, actor_in: Tensor, critic_in: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two `[..., D]` (the same tensor if the input is shared) to two `[..., features]`."""
        lead, width = actor_in.shape[:-1], actor_in.shape[-1]
        rows = actor_in.reshape(-1, width)
        large = self.written_out and is_large(rows, rows.shape[0], self.widest)
        if large and not self._own_kernels(rows):
            pair = rows, rows if actor_in is critic_in else critic_in.reshape(-1, width)
            actor, critic = layers_apart(pair, self.activations, [*self.parameters()])
        elif actor_in is critic_in:
            actor, critic = self.stacked(rows.expand(2, -1, width)).unbind(0)
        else:
            both = torch.stack((rows, critic_in.reshape(-1, width)))
            actor, critic = self.stacked(both).unbind(0)
        return actor.view(*lead, -1), critic.view(*lead, -1)
