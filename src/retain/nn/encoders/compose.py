"""Builds the encoder for an observation space, composed of several for Dict observations."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from retain.errors import UsageError
from retain.nn.encoders.base import ACTION_MASK, AUTO, Encoder, build_encoder, encoder_class
from retain.nn.encoders.image import GridCNN, ImageEncoder, NatureCNN, is_image, is_small_image
from retain.nn.encoders.vector import OneHotEncoder, VectorEncoder, byte_scale
from retain.types import Obs


class DictEncoder(Encoder):
    """One encoder per entry, with concatenated features; the action mask is not a feature.

    A vector of few numbers would drown beside an image's hundreds of features, so the features of
    images are normalised (Ba et al. 2016, arXiv:1607.06450), and those of all images together
    weigh as much at first as the other entries.
    """

    def __init__(
        self,
        space: gym.spaces.Dict,
        hidden: Sequence[int],
        activation: str,
        precision: str,
        encoder: str = AUTO,
    ) -> None:
        super().__init__()
        self.keys = [key for key in space.spaces if key != ACTION_MASK]
        kind = encoder_class(encoder)
        readable = [kind is None or kind.accepts(space.spaces[key]) for key in self.keys]
        if not any(readable):
            raise _unreadable(encoder, space)
        made = [
            make_encoder(
                space.spaces[key], hidden, activation, precision, encoder=encoder if fits else AUTO
            )
            for key, fits in zip(self.keys, readable, strict=True)
        ]
        self.encoders = nn.ModuleList(made)
        self.features = sum(encoder.features for encoder in made)
        shown = [encoder for encoder in made if isinstance(encoder, ImageEncoder)]
        images = sum(encoder.features for encoder in shown)
        others = self.features - images
        self.balances = nn.ModuleList(
            Balance(encoder.features, sqrt(others / images))
            if encoder in shown and others
            else nn.Identity()
            for encoder in made
        )

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        """A dict of `[T, B, ...]` to `[T, B, features]`."""
        parts = zip(self.keys, self.encoders, self.balances, strict=True)
        return torch.cat([balance(encoder(obs[key])) for key, encoder, balance in parts], dim=-1)


class Balance(nn.Module):
    """A layer normalisation whose output has a given spread at first."""

    def __init__(self, features: int, spread: float) -> None:
        super().__init__()
        self.norm, self.spread = nn.LayerNorm(features), spread

    def forward(self, x: Tensor) -> Tensor:
        """`[..., features]` to the same shape."""
        out: Tensor = self.spread * self.norm(x)
        return out


class WholeEncoder(Encoder):
    """A user's encoder of a whole Dict space; the action mask is left out."""

    def __init__(self, inner: Encoder) -> None:
        super().__init__()
        self.inner, self.features = inner, inner.features

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        """A dict of `[T, B, ...]` to `[T, B, features]`."""
        return self.inner({key: x for key, x in obs.items() if key != ACTION_MASK})


def _unreadable(encoder: str, space: gym.Space[Any]) -> UsageError:
    return UsageError(f"encoder {encoder!r} cannot read the observation space {space}")


def make_encoder(
    space: gym.Space[Any],
    hidden: Sequence[int],
    activation: str,
    precision: str = "float32",
    *,
    encoder: str = AUTO,
) -> Encoder:
    """Builds the encoder for an observation space; its attribute `features` is its output width.

    Args:
        hidden: MLP widths before the memory; empty passes vectors through unchanged.
        precision: precision of the products in an image encoder, "float32" or "bfloat16".
        encoder: "auto", a registered name, or `module:name`.
    Raises:
        UsageError: the space has no encoder, or the chosen one cannot read it; the line names it.
    """
    kind = encoder_class(encoder)
    fields = {"hidden": hidden, "activation": activation, "precision": precision}
    if isinstance(space, gym.spaces.Dict):
        if kind is None or kind.each_entry:
            return DictEncoder(space, hidden, activation, precision, encoder)
        if ACTION_MASK in space.spaces:
            rest = {key: sub for key, sub in space.spaces.items() if key != ACTION_MASK}
            return WholeEncoder(build_encoder(kind, gym.spaces.Dict(rest), **fields))
    if kind is None:
        return _usual(space, hidden, activation, precision)
    if not kind.accepts(space):
        raise _unreadable(encoder, space)
    return build_encoder(kind, space, **fields)


def _usual(
    space: gym.Space[Any], hidden: Sequence[int], activation: str, precision: str
) -> Encoder:
    """The encoder that "auto" chooses for a space without entries."""
    spaces = gym.spaces
    if is_image(space):
        return NatureCNN(space, precision)  # type: ignore[arg-type]
    if is_small_image(space):
        return GridCNN(space, precision)  # type: ignore[arg-type]
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return VectorEncoder(space.shape, hidden, activation, byte_scale(space))
    if isinstance(space, spaces.Discrete):
        return OneHotEncoder([int(space.n)], int(space.start), hidden, activation)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return OneHotEncoder(space.nvec.tolist(), 0, hidden, activation)
    raise UsageError(
        f"no encoder for the observation space {space} "
        "(expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these)"
    )


def action_mask(obs: Obs) -> Tensor | None:
    """The boolean mask of allowed actions in a Dict observation, if it has one."""
    if isinstance(obs, dict) and ACTION_MASK in obs:
        return obs[ACTION_MASK].bool()
    return None


def allowed_actions(obs: Obs) -> Tensor | None:
    """`action_mask`, with all actions allowed in rows that allow none. After an episode's end no
    action may be allowed, and results there must be finite although they count nowhere."""
    mask = action_mask(obs)
    return None if mask is None else mask | ~mask.any(-1, keepdim=True)
