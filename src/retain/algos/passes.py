"""An on-policy update in the making: each shard's segment, its passes, and what they left."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from retain.data.rollout import Rollout, Sequences
from retain.types import Obs


@dataclass
class Minibatch:
    """What a gradient step leaves for the metrics, all of it still on the device."""

    terms: dict[str, Tensor]
    total: Tensor
    gap: Tensor
    """The gaps, flat."""
    norms: Tensor
    """`[P]` norm of each parameter's gradient, before clipping."""
    norm: Tensor
    """Norm of the whole gradient, before clipping."""
    stop: Tensor | None
    """Bool scalar, true if the loss ended the update and this step was left out."""


@dataclass
class Pass:
    """One pass over a segment's sequences, and what its gradient steps left."""

    sequences: Sequences
    size: int
    """Sequences in a minibatch."""
    order: Tensor | None
    done: list[Minibatch] = field(default_factory=list)
    stopped: bool = False
    """Whether the last minibatch ended the update without a step."""

    def minibatches(self) -> Iterator[Sequences]:
        """The minibatches, in order."""
        return self.sequences.minibatches(self.size, self.order)

    def batch(self, place: int) -> Sequences:
        """One minibatch again."""
        return next(islice(self.minibatches(), place, None))


@dataclass
class Part:
    """A shard's part of an update."""

    shard: int
    rollout: Rollout
    obs: Obs
    """`[T, B, ...]` prepared observations."""
    advantage: Tensor
    target: Tensor
    sequences: Sequences
    passes: list[Pass] = field(default_factory=list)

    @property
    def done(self) -> list[Minibatch]:
        """What every gradient step of the update left."""
        return [minibatch for one in self.passes for minibatch in one.done]
