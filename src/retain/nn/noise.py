"""Noise for the losses: drawn from a generator as it is needed, or drawn before a gradient step,
because a compiled graph cannot hold a generator."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor


class Recorder:
    """A generator that remembers the shape of everything that was drawn from it."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.shapes: list[torch.Size] = []


class Drawn:
    """Standard normal numbers that were drawn before, in the order of their use."""

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
        source = source.generator
    return torch.empty_like(like).normal_(generator=source)


def drawn(shapes: Sequence[torch.Size], generator: Generator) -> list[Tensor]:
    """Standard normal numbers of those shapes, on the generator's device."""
    return [torch.empty(s, device=generator.device).normal_(generator=generator) for s in shapes]
