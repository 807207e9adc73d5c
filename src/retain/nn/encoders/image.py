"""Encoders of images."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.encoders.base import Encoder, register_encoder
from retain.nn.encoders.vector import byte_scale, orthogonal
from retain.ops.products import linear


def is_image(space: gym.Space[object]) -> bool:
    """Whether a space has three dimensions, at most four channels on one side and pixels on the
    others."""
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 3:
        return False
    return min(space.shape[0], space.shape[-1]) <= 16 and sorted(space.shape)[1] >= 36


def is_small_image(space: gym.Space[object]) -> bool:
    """Whether a space is an image below the Nature CNN's size: 5 to 35 pixels a side, bytes or
    bounded floats; bytes may lack the channels."""
    if not isinstance(space, gym.spaces.Box) or is_image(space) or not space.is_bounded():
        return False
    if len(space.shape) == 2:
        return space.dtype == np.uint8 and min(space.shape) >= 5
    if len(space.shape) != 3:
        return False
    least, middle, most = sorted(space.shape)
    return min(space.shape[0], space.shape[-1]) == least <= 16 and middle >= 5 and most < 36


def channels_last(space: gym.spaces.Box) -> bool:
    """Whether an image of three dimensions is `[H, W, C]`, not `[C, H, W]`."""
    return space.shape[-1] < space.shape[0]


class ImageEncoder(Encoder):
    """Several convolutions and a linear layer, over `[C, H, W]` or `[H, W, C]` images.

    The encoder itself divides uint8 images by 255, so all storage before it takes one byte a pixel.
    Small images that `ObsNormaliser` has normalised arrive as floats and are read as they are.

    Args:
        precision: float32, or bfloat16 for the products only (sums, weights and the output stay
            float32), which is twice as fast on recent CPUs and GPUs.
    """

    each_entry = True
    least: ClassVar[int] = 1
    """Smallest number of pixels on the shorter side."""
    first: nn.Conv2d
    convolutions: nn.Module

    def __init__(self, space: gym.spaces.Box, precision: str) -> None:
        super().__init__()
        self.channels_last = channels_last(space)
        size = space.shape[:2] if self.channels_last else space.shape[1:]
        self.shape = (space.shape[-1] if self.channels_last else space.shape[0], *size)
        if min(size) < self.least:
            raise UsageError(
                f"images of shape {space.shape} are too small for {type(self).__name__} (expected "
                f"at least {self.least} x {self.least} pixels); try --encoder mlp, or your own"
            )
        self.scale = 1 / 255 if str(space.dtype) == "uint8" else 1.0
        self.small = is_small_image(space)
        self.precision = torch.bfloat16 if precision == "bfloat16" else torch.float32

    @classmethod
    def accepts(cls, space: gym.Space[Any]) -> bool:
        """Accepts Boxes of three dimensions."""
        return isinstance(space, gym.spaces.Box) and len(space.shape) == 3

    def finish(self, features: int) -> None:
        """Adds the linear layer after the convolutions."""
        with torch.no_grad():
            example = self.convolutions(self.first(torch.zeros(1, *self.shape)))
        self.linear = orthogonal(nn.Linear(example.numel(), features))
        self.features = features
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, obs: Tensor) -> Tensor:
        """`[T, B, C, H, W]` or `[T, B, H, W, C]` to `[T, B, features]`."""
        T, B = obs.shape[:2]
        x = obs.flatten(0, 1)
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        # Channels last is what the kernels want, and bytes are quicker to move than floats; the
        # division by 255 costs nothing where it is done to the first weights.
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, self.precision, self.precision == torch.bfloat16):
            first = self.first
            normalised = self.small and x.dtype != torch.uint8  # by ObsNormaliser
            scale = 1.0 if normalised else self.scale
            x = F.conv2d(x.float(), first.weight * scale, first.bias, first.stride, first.padding)
            x = self.convolutions(x)
            x = torch.relu(linear(x.flatten(1), self.linear.weight, self.linear.bias))
        return x.float().view(T, B, -1)


@register_encoder("nature")
class NatureCNN(ImageEncoder):
    """The convolutional network of Mnih et al. 2015 (Nature 518), 512 features."""

    least = 36

    def __init__(
        self, space: gym.spaces.Box, precision: str = "float32", features: int = 512
    ) -> None:
        super().__init__(space, precision)
        self.first = orthogonal(nn.Conv2d(self.shape[0], 32, 8, stride=4))
        self.convolutions = nn.Sequential(
            nn.ReLU(),
            orthogonal(nn.Conv2d(32, 64, 4, stride=2)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(64, 64, 3, stride=1)),
            nn.ReLU(),
        )
        self.finish(features)


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` to the same shape."""
        return x + self.two(torch.relu(self.one(torch.relu(x))))  # type: ignore[no-any-return]


@register_encoder("impala")
class ImpalaResNet(ImageEncoder):
    """The residual network of Espeholt et al. 2018 (arXiv:1802.01561, figure 3), 256 features.

    Three stages, each a convolution, a pooling that halves the sides, and two residual blocks. The
    network takes images of any size, costs several Nature CNNs, and learns more from as many
    frames.

    Args:
        width: factor on the channels 16, 32, 32.
    """

    def __init__(
        self,
        space: gym.spaces.Box,
        precision: str = "float32",
        features: int = 256,
        width: int = 1,
    ) -> None:
        super().__init__(space, precision)
        channels = [16 * width, 32 * width, 32 * width]
        self.first = nn.Conv2d(self.shape[0], channels[0], 3, padding=1)
        parts: list[nn.Module] = []
        for index, count in enumerate(channels):
            if index:
                parts.append(nn.Conv2d(channels[index - 1], count, 3, padding=1))
            parts += [nn.MaxPool2d(3, stride=2, padding=1), Residual(count), Residual(count)]
        self.convolutions = nn.Sequential(*parts, nn.ReLU())
        self.finish(features)


@register_encoder("grid")
class GridCNN(ImageEncoder):
    """A small network for images that are too small for the others (grids, maps), 128 features.

    3 x 3 convolutions keep the size once, then halve it until at most 4 x 4 are left. Bytes are
    divided by the largest value of their space.
    """

    def __init__(
        self, space: gym.spaces.Box, precision: str = "float32", features: int = 128
    ) -> None:
        self.flat = len(space.shape) == 2
        whole = space
        if self.flat:
            low, high = space.low[..., None], space.high[..., None]
            whole = gym.spaces.Box(low, high, dtype=np.uint8)
        super().__init__(whole, precision)
        self.scale = byte_scale(space)
        self.first = orthogonal(nn.Conv2d(self.shape[0], 16, 3, padding=1))
        parts: list[nn.Module] = [nn.ReLU()]
        width, side = 16, max(self.shape[1:])
        while side > 4:
            parts += [orthogonal(nn.Conv2d(width, 32, 3, stride=2, padding=1)), nn.ReLU()]
            width, side = 32, (side + 1) // 2
        self.convolutions = nn.Sequential(*parts)
        self.finish(features)

    @classmethod
    def accepts(cls, space: gym.Space[Any]) -> bool:
        """Accepts Boxes of three dimensions, and bytes of two."""
        return super().accepts(space) or (is_small_image(space) and len(space.shape or ()) == 2)

    def forward(self, obs: Tensor) -> Tensor:
        """`[T, B, H, W]`, or with a third dimension of channels, to `[T, B, features]`."""
        return super().forward(obs.unsqueeze(-1) if self.flat else obs)
