"""From observations to feature vectors: one encoder a space, composed for Dict observations."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod, sqrt
from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError, unknown
from retain.types import Obs


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

ACTION_MASK = "action_mask"
"""The entry of a Dict observation that marks the allowed actions; it is no feature."""


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The function called `name`; UsageError with the nearest name when there is none."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def orthogonal(layer: nn.Module, gain: float = sqrt(2)) -> nn.Module:
    """Orthogonal weights and zero biases, the initialisation PPO results rest on."""
    nn.init.orthogonal_(layer.weight, gain)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class MLP(nn.Module):
    """Linear layers with an activation after each; `features` is the last width."""

    def __init__(self, features_in: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        widths = [features_in, *hidden]
        self.features = widths[-1]
        self.activation = activation_function(activation)
        self.layers = nn.ModuleList(orthogonal(nn.Linear(a, b)) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D] -> [..., features]`."""
        for layer in self.layers:
            x = self.activation(layer(x))
        return x


class PairMLP(nn.Module):
    """Two MLPs of one shape, actor's and critic's, evaluated as one batched product.

    Nothing is shared between them: weights are stacked `[2, in, out]`, which halves the number of
    operations, and at these sizes an operation costs more than its arithmetic.
    """

    def __init__(self, features_in: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        widths = [features_in, *hidden]
        self.features = widths[-1]
        self.activation = activation_function(activation)
        self.depth = len(hidden)
        for layer, (wide_in, wide_out) in enumerate(pairwise(widths)):
            weight = torch.empty(2, wide_in, wide_out)
            for one in weight:
                nn.init.orthogonal_(one, sqrt(2))
            self.register_parameter(f"weight_{layer}", nn.Parameter(weight))
            self.register_parameter(f"bias_{layer}", nn.Parameter(torch.zeros(2, 1, wide_out)))

    def forward(self, actor_in: Tensor, critic_in: Tensor) -> tuple[Tensor, Tensor]:
        """Two `[..., D]` (the same tensor if the input is shared) to two `[..., features]`."""
        lead, width = actor_in.shape[:-1], actor_in.shape[-1]
        if actor_in is critic_in:
            x = actor_in.reshape(1, -1, width).expand(2, -1, width)
        else:
            x = torch.stack((actor_in.reshape(-1, width), critic_in.reshape(-1, width)))
        named = self._parameters
        for layer in range(self.depth):
            weight, bias = named[f"weight_{layer}"], named[f"bias_{layer}"]
            if self.activation is tanh:
                x = tanh_layers(x, weight, bias)  # type: ignore[arg-type]
            else:
                x = self.activation(torch.baddbmm(bias, x, weight))  # type: ignore[arg-type]
        actor, critic = x.unbind(0)
        return actor.view(*lead, -1), critic.view(*lead, -1)


class VectorEncoder(nn.Module):
    """Flattens a Box, MultiBinary or scalar observation and sends it through an MLP, if any."""

    def __init__(self, shape: Sequence[int], hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.event_dims = len(shape)
        self.mlp = MLP(prod(shape), hidden, activation) if hidden else None
        self.features = hidden[-1] if hidden else prod(shape)

    def forward(self, obs: Tensor) -> Tensor:
        """`[T, B, *shape] -> [T, B, features]`."""
        x = obs if obs.dtype == torch.float32 else obs.float()
        if self.event_dims != 1:
            x = x.flatten(2) if self.event_dims else x.unsqueeze(-1)
        if self.mlp is not None:
            x = self.mlp(x)
        return x


class OneHotEncoder(nn.Module):
    """Discrete and MultiDiscrete observations as concatenated one-hot vectors."""

    def __init__(
        self, sizes: Sequence[int], start: int, hidden: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self.sizes, self.start = tuple(sizes), start
        self.mlp = MLP(sum(sizes), hidden, activation)
        self.features = self.mlp.features

    def forward(self, obs: Tensor) -> Tensor:
        """`[T, B]` or `[T, B, K]` integers to `[T, B, features]`."""
        index = (obs - self.start).long()
        if len(self.sizes) == 1:
            x = F.one_hot(index.view(index.shape[:2]), self.sizes[0])
        else:
            parts = zip(index.unbind(-1), self.sizes, strict=True)
            x = torch.cat([F.one_hot(part, size) for part, size in parts], dim=-1)
        out: Tensor = self.mlp(x.float())
        return out


class NatureCNN(nn.Module):
    """The convolutional network of Mnih et al. 2015 (Nature 518), 512 features.

    Takes `[C, H, W]` or `[H, W, C]` images; uint8 ones are divided by 255 here, at the last
    moment, so everything before stores one byte a pixel.
    """

    def __init__(self, space: gym.spaces.Box, features: int = 512) -> None:
        super().__init__()
        self.channels_last = space.shape[-1] < space.shape[0]
        height_first = space.shape[:2] if self.channels_last else space.shape[1:]
        channels = space.shape[-1] if self.channels_last else space.shape[0]
        if min(height_first) < 36:
            raise UsageError(
                f"images of shape {space.shape} are too small for the Nature CNN "
                "(expected at least 36 x 36 pixels); flatten them or pass your own encoder"
            )
        self.scale = 1 / 255 if space.dtype == torch.uint8 or str(space.dtype) == "uint8" else 1.0
        self.convolutions = nn.Sequential(
            orthogonal(nn.Conv2d(channels, 32, 8, stride=4)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(32, 64, 4, stride=2)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(64, 64, 3, stride=1)),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            width = self.convolutions(torch.zeros(1, channels, *height_first)).shape[1]
        self.linear = orthogonal(nn.Linear(width, features))
        self.features = features

    def forward(self, obs: Tensor) -> Tensor:
        """`[T, B, C, H, W]` or `[T, B, H, W, C]` to `[T, B, 512]`."""
        T, B = obs.shape[:2]
        x = obs.flatten(0, 1)
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        x = self.convolutions(x.float() * self.scale)
        return torch.relu(self.linear(x)).view(T, B, -1)


class DictEncoder(nn.Module):
    """One encoder an entry, their features concatenated; the action mask is no feature."""

    def __init__(self, space: gym.spaces.Dict, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.keys = [key for key in space.spaces if key != ACTION_MASK]
        self.encoders = nn.ModuleList(
            make_encoder(space.spaces[key], hidden, activation) for key in self.keys
        )
        self.features = sum(encoder.features for encoder in self.encoders)  # type: ignore[misc]

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        """A dict of `[T, B, ...]` to `[T, B, features]`."""
        pairs = zip(self.keys, self.encoders, strict=True)
        return torch.cat([encoder(obs[key]) for key, encoder in pairs], dim=-1)


def is_image(space: gym.Space[object]) -> bool:
    """Three dimensions with at most four channels on one side and pixels on the others."""
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 3:
        return False
    return min(space.shape[0], space.shape[-1]) <= 16 and sorted(space.shape)[1] >= 36


def make_encoder(space: gym.Space[object], hidden: Sequence[int], activation: str) -> nn.Module:
    """The encoder for an observation space; its attribute `features` is the width it gives.

    Args:
        hidden: MLP widths before the memory; empty passes vectors through unchanged.
    Raises:
        UsageError: the space has no encoder; the line names it.
    """
    spaces = gym.spaces
    if isinstance(space, spaces.Dict):
        return DictEncoder(space, hidden, activation)
    if is_image(space):
        return NatureCNN(space)  # type: ignore[arg-type]
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return VectorEncoder(space.shape, hidden, activation)
    if isinstance(space, spaces.Discrete):
        return OneHotEncoder([int(space.n)], int(space.start), hidden, activation)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return OneHotEncoder(space.nvec.tolist(), 0, hidden, activation)
    raise UsageError(
        f"no encoder for the observation space {space} "
        "(expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these)"
    )


def action_mask(obs: Obs) -> Tensor | None:
    """The boolean mask of allowed actions that travels in a Dict observation, if one does."""
    if isinstance(obs, dict) and ACTION_MASK in obs:
        return obs[ACTION_MASK].bool()
    return None
