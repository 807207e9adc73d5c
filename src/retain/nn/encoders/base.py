"""The base of every encoder, and encoders by name; ours and a user's are registered the same
way."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
from torch import Tensor, nn

from retain.errors import UsageError
from retain.registry import Kind, Registry
from retain.types import Obs

ACTION_MASK = "action_mask"
"""The entry of a Dict observation that marks the allowed actions; it is not a feature."""


class Encoder(nn.Module, ABC):
    """Turns observations of one space into feature vectors.

    A constructor takes the space and, by name, any of `hidden` (MLP widths before the memory),
    `activation` and `precision` that it needs.
    """

    features: int
    """Width of the output."""
    each_entry: ClassVar[bool] = False
    """For a Dict space: whether the encoder reads each entry that it `accepts` separately, while
    the usual encoders read the others. An encoder with False gets the whole space, without the
    action mask."""

    @classmethod
    def accepts(cls, space: gym.Space[Any]) -> bool:
        """Whether the encoder can read such a space."""
        return True

    @abstractmethod
    def forward(self, obs: Any) -> Tensor:
        """`[T, B, ...]`, or a dict of these, to `[T, B, features]`."""

    def __call__(self, obs: Obs) -> Tensor:
        """Calls `forward`, with types."""
        out: Tensor = super().__call__(obs)
        return out


AUTO = "auto"
"""The encoder that suits the space."""
_REGISTRY = Registry[Encoder]("an encoder", Encoder, "retain.nn.Encoder", reserved=(AUTO,))  # type: ignore[type-abstract]
ENCODERS = _REGISTRY.classes
"""Every registered encoder by its name."""


def register_encoder(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes an `Encoder` class known by `name` (`--encoder name`).

    Raises:
        UsageError: another class has the name, or the class is not an `Encoder`.
    """
    return _REGISTRY.register(name)


def encoder_name(encoder: object) -> str:
    """The name that a configuration stores for an encoder: registered, or `module:name` of a class.

    Raises:
        UsageError: the value is neither a name nor an encoder class.
    """
    if isinstance(encoder, str):
        return encoder
    if not (isinstance(encoder, type) and issubclass(encoder, Encoder)):
        raise UsageError(
            f"encoder is {encoder!r} (expected a name, one of {', '.join((AUTO, *ENCODERS))}, "
            "'module:name', or a subclass of retain.nn.Encoder; MLP widths are encoder_hidden)"
        )
    return _REGISTRY.name_of(encoder)


def encoder_class(name: str) -> type[Encoder] | None:
    """The class that a configuration calls `name`; None for "auto".

    Raises:
        UsageError: there is no such encoder; the line gives the nearest.
    """
    return None if name == AUTO else _REGISTRY.find(name)


def build_encoder(kind: type[Encoder], space: gym.Space[Any], **fields: Any) -> Encoder:
    """Builds an encoder of a space, with those of the fields that its constructor names."""
    wanted = inspect.signature(kind).parameters
    made = kind(space, **{k: v for k, v in fields.items() if k in wanted})
    if not isinstance(getattr(made, "features", None), int):
        raise UsageError(f"{kind.__name__} has no `features` (expected an int, its output's width)")
    return made
