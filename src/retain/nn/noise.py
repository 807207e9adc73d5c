"""Noise for losses and actions: drawn from a generator as it is needed, or drawn before, because a
compiled or exported graph cannot hold a generator."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

Kind = Literal["normal", "uniform"]
"""Standard normal numbers, or uniform ones in [0, 1)."""


class Recorder:
    """A generator that remembers the shape and the kind of everything that was drawn from it."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.shapes: list[torch.Size] = []
        self.kinds: list[Kind] = []


class Drawn:
    """Numbers that were drawn before, in the order of their use."""

    def __init__(self, numbers: Sequence[Tensor]) -> None:
        self.numbers, self.used = numbers, 0


Source: TypeAlias = Generator | Recorder | Drawn | None
"""The origin of noise; None is torch's own generator."""


def standard_normal(like: Tensor, source: Source = None) -> Tensor:
    """Standard normal numbers with the shape and dtype of `like`, without gradient."""
    if isinstance(source, Drawn):
        source.used += 1
        return source.numbers[source.used - 1]
    if isinstance(source, Recorder):
        source.shapes.append(like.shape)
        source.kinds.append("normal")
        source = source.generator
    return torch.empty_like(like).normal_(generator=source)


def uniform(
    shape: Sequence[int], source: Source = None, device: torch.device | None = None
) -> Tensor:
    """Uniform numbers in [0, 1), float32.

    Args:
        device: the device of the numbers; None is the source's own.
    """
    if isinstance(source, Drawn):
        source.used += 1
        return source.numbers[source.used - 1]
    if isinstance(source, Recorder):
        source.shapes.append(torch.Size(shape))
        source.kinds.append("uniform")
        source = source.generator
    if device is None and source is not None:
        device = source.device
    return torch.rand(shape, generator=source, device=device)


def exponential(like: Tensor, source: Source = None) -> Tensor:
    """Exponential numbers of mean 1 with the shape and dtype of `like`, without gradient."""
    if source is None or isinstance(source, Generator):
        return torch.empty_like(like).exponential_(generator=source)
    chance = uniform(like.shape, source, like.device)
    # Neither 0 nor infinite, whatever was drawn: a forbidden action would win with a NaN.
    return -chance.clamp(LEAST, 1 - LEAST).log()


LEAST = 2.0**-24
"""The distance of the largest float32 below 1 from it."""


def drawn(shapes: Sequence[torch.Size], generator: Generator) -> list[Tensor]:
    """Standard normal numbers of those shapes, on the generator's device."""
    return [torch.empty(s, device=generator.device).normal_(generator=generator) for s in shapes]
