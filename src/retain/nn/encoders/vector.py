"""Encoders of vectors and of discrete observations."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod, sqrt
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.nn.encoders.base import Encoder, register_encoder
from retain.nn.stacked import activation_function
from retain.ops.products import linear

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d)


def orthogonal(layer: Layer, gain: float = sqrt(2)) -> Layer:
    """Sets orthogonal weights and zero biases, the initialisation behind published PPO results."""
    nn.init.orthogonal_(layer.weight, gain)
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
            x = self.activation(linear(x, layer.weight, layer.bias))  # type: ignore[arg-type]
        return x


def byte_scale(space: gym.Space[Any]) -> float:
    """The factor that scales the largest byte of a space to 1; 1 for all other spaces."""
    if isinstance(space, gym.spaces.Box) and space.dtype == np.uint8:
        return 1 / max(1, int(space.high.max()))
    return 1.0


class VectorEncoder(Encoder):
    """Flattens a Box, MultiBinary or scalar observation and passes it through an MLP, if there is
    one.

    Args:
        scale: factor on the entries; see `byte_scale`.
    """

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], activation: str, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.scale = scale
        self.event_dims = len(shape)
        self.mlp = MLP(prod(shape), hidden, activation) if hidden else None
        self.features = hidden[-1] if hidden else prod(shape)

    def forward(self, obs: Tensor) -> Tensor:
        """`[T, B, *shape] -> [T, B, features]`."""
        x = obs if obs.dtype == torch.float32 else obs.float()
        normalised = self.event_dims > 1 and obs.is_floating_point()  # an image, by ObsNormaliser
        if self.scale != 1.0 and not normalised:
            x = x * self.scale
        if self.event_dims != 1:
            x = x.flatten(2) if self.event_dims else x.unsqueeze(-1)
        if self.mlp is not None:
            x = self.mlp(x)
        return x


class OneHotEncoder(Encoder):
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


@register_encoder("mlp")
class FlatEncoder(VectorEncoder):
    """Flattens any Box, images too, and passes it through an MLP, if `encoder_hidden` asks for
    one."""

    each_entry = True

    def __init__(
        self, space: gym.spaces.Box, hidden: Sequence[int] = (), activation: str = "tanh"
    ) -> None:
        super().__init__(space.shape, hidden, activation, byte_scale(space))

    @classmethod
    def accepts(cls, space: gym.Space[Any]) -> bool:
        """Accepts Boxes of any shape."""
        return isinstance(space, gym.spaces.Box)
