"""From observations to feature vectors: one encoder a space, composed for Dict observations."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod, sqrt
from typing import TypeVar

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.stacked import activation_function
from retain.ops.products import linear
from retain.types import Obs

ACTION_MASK = "action_mask"
"""The entry of a Dict observation that marks the allowed actions; it is no feature."""


Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d)


def orthogonal(layer: Layer, gain: float = sqrt(2)) -> Layer:
    """Orthogonal weights and zero biases, the initialisation PPO results rest on."""
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

    Args:
        precision: float32, or bfloat16 for its products (sums, weights and the output stay
            float32): twice as fast on recent CPUs and GPUs.
    """

    def __init__(
        self, space: gym.spaces.Box, precision: str = "float32", features: int = 512
    ) -> None:
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
        self.precision = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.first = nn.Conv2d(channels, 32, 8, stride=4)
        orthogonal(self.first)
        self.convolutions = nn.Sequential(
            nn.ReLU(),
            orthogonal(nn.Conv2d(32, 64, 4, stride=2)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(64, 64, 3, stride=1)),
            nn.ReLU(),
        )
        with torch.no_grad():
            example = self.convolutions(self.first(torch.zeros(1, channels, *height_first)))
        self.linear = orthogonal(nn.Linear(example.numel(), features))
        self.features = features
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, obs: Tensor) -> Tensor:
        """`[T, B, C, H, W]` or `[T, B, H, W, C]` to `[T, B, 512]`."""
        T, B = obs.shape[:2]
        x = obs.flatten(0, 1)
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        # Channels last is what the kernels want, and bytes are quicker to move than floats; the
        # division by 255 costs nothing where it is done to the first weights.
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, self.precision, self.precision == torch.bfloat16):
            first = self.first
            x = F.conv2d(x.float(), first.weight * self.scale, first.bias, first.stride)
            x = self.convolutions(x)
            x = torch.relu(linear(x.flatten(1), self.linear.weight, self.linear.bias))
        return x.float().view(T, B, -1)


class DictEncoder(nn.Module):
    """One encoder an entry, their features concatenated; the action mask is no feature."""

    def __init__(
        self, space: gym.spaces.Dict, hidden: Sequence[int], activation: str, precision: str
    ) -> None:
        super().__init__()
        self.keys = [key for key in space.spaces if key != ACTION_MASK]
        self.encoders = nn.ModuleList(
            make_encoder(space.spaces[key], hidden, activation, precision) for key in self.keys
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


def make_encoder(
    space: gym.Space[object],
    hidden: Sequence[int],
    activation: str,
    precision: str = "float32",
) -> nn.Module:
    """The encoder for an observation space; its attribute `features` is the width it gives.

    Args:
        hidden: MLP widths before the memory; empty passes vectors through unchanged.
        precision: of the products in an image encoder, "float32" or "bfloat16".
    Raises:
        UsageError: the space has no encoder; the line names it.
    """
    spaces = gym.spaces
    if isinstance(space, spaces.Dict):
        return DictEncoder(space, hidden, activation, precision)
    if is_image(space):
        return NatureCNN(space, precision)  # type: ignore[arg-type]
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


def allowed_actions(obs: Obs) -> Tensor | None:
    """`action_mask`, and all actions where it allows none: after an episode's end nothing may be
    allowed, and what is computed there must be finite although it counts nowhere."""
    mask = action_mask(obs)
    return None if mask is None else mask | ~mask.any(-1, keepdim=True)
