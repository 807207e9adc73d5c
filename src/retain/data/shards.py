"""How a run is divided: shards of its environments and minibatches, spread over ranks.

A shard has its own environments, its own noise and its own share of every minibatch. A rank is a
process; it executes a block of neighbouring shards. What the shards compute is put together in the
order of the shards, so that numbers depend on the number of shards and not on the number of ranks
(docs/scaling.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The number of shards of a run, and the neighbouring ones that this process executes."""

    count: int = 1
    own: range = range(1)

    @property
    def several(self) -> bool:
        """Whether the run has more than one shard."""
        return self.count > 1


ONE_SHARD = Layout()
LARGE = 65_536
"""Numbers that a rank would receive from which on a tensor is summed in slices, which sends
less."""


def shard_seed(seed: int, shard: int) -> int:
    """The seed of a shard's own generator; the first shard's is `seed` itself."""
    if shard == 0:
        return seed
    return int(np.random.SeedSequence((seed, shard)).generate_state(1, np.uint64)[0] >> 1)


class Exchange(Protocol):
    """What ranks tell each other. Every rank calls the same methods in the same order."""

    @property
    def rank(self) -> int:
        """This process's number, from 0."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    def gather(self, x: Tensor) -> Tensor:
        """`[R, ...]` the ranks' tensors of one shape, in order."""

    def swap(self, x: Tensor) -> Tensor:
        """`[R, ...]` row r is what rank r had in the row of this rank's number."""

    def objects(self, value: Any) -> list[Any]:
        """The ranks' values, in order."""

    def first(self, value: Any) -> Any:
        """Rank 0's value."""


class Alone:
    """The exchange of a process that is the only rank."""

    rank, size = 0, 1

    def gather(self, x: Tensor) -> Tensor:
        """See `Exchange`."""
        return x.unsqueeze(0)

    def swap(self, x: Tensor) -> Tensor:
        """See `Exchange`."""
        return x

    def objects(self, value: Any) -> list[Any]:
        """See `Exchange`."""
        return [value]

    def first(self, value: Any) -> Any:
        """See `Exchange`."""
        return value


ALONE = Alone()


def tree_sum(parts: Sequence[Tensor]) -> Tensor:
    """The sum of tensors, always as the sum of the two halves' sums.

    Ranks that sum their own halves first, or quarters, ... therefore get the same bits.
    """
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return tree_sum(parts[:middle]) + tree_sum(parts[middle:])


class Shards:
    """This process's shards among all of a run, and sums over all of them.

    Every result is the same on all ranks, to the last bit, and does not depend on their number.
    """

    def __init__(self, layout: Layout = ONE_SHARD, exchange: Exchange = ALONE) -> None:
        self.count, self.own, self.exchange = layout.count, layout.own, exchange
        ranks = exchange.size
        self._halves = ranks & (ranks - 1) == 0
        """Whether this process's shards are a branch of the tree of all: so for 2^k ranks."""

    @property
    def several(self) -> bool:
        """Whether the run has more than one shard."""
        return self.count > 1

    def all(self, parts: Sequence[Tensor]) -> Tensor:
        """`[S, ...]` every shard's tensor, given those of this process's shards."""
        return self.exchange.gather(torch.stack(list(parts))).flatten(0, 1)

    def mean(self, parts: Sequence[Tensor]) -> Tensor:
        """The mean over all shards, given the tensors of this process's shards."""
        own = torch.stack([tree_sum(parts)] if self._halves else list(parts))
        if self.exchange.size > 2 and own[0].numel() * self.exchange.size >= LARGE:
            return self._in_slices(own) / self.count
        return tree_sum(self.exchange.gather(own).flatten(0, 1).unbind()) / self.count

    def _in_slices(self, own: Tensor) -> Tensor:
        """The sum, of which every rank adds up a slice: the same additions in the same order, but a
        rank receives twice the tensor and not the tensors of all ranks.

        Args:
            own: `[n, ...]` what this rank adds.
        """
        ranks, shape = self.exchange.size, own.shape[1:]
        flat = own.flatten(1)
        size = -(-flat.shape[1] // ranks)
        padded = torch.nn.functional.pad(flat, (0, size * ranks - flat.shape[1]))
        slices = padded.view(len(own), ranks, size).transpose(0, 1).contiguous()  # [R, n, size]
        slice_ = tree_sum(self.exchange.swap(slices).flatten(0, 1).unbind())
        return self.exchange.gather(slice_).flatten()[: flat.shape[1]].view(shape)

    def average(self, values: Sequence[float | Tensor]) -> float | Tensor:
        """The mean of a metric over all shards, given those of this process's shards."""
        if not self.several:
            return values[0]
        return self.mean([torch.as_tensor(value, dtype=torch.float32) for value in values])

    def total(self, values: Sequence[float]) -> float:
        """The sum of a whole number over all shards, given those of this process's shards."""
        if not self.several:
            return values[0]
        return float(self.all([torch.tensor(value, dtype=torch.float64) for value in values]).sum())

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """`[T, B, ...]` of all environments, given `[T, B / S, ...]` of this process's shards."""
        return torch.cat(self.all(parts).unbind(), dim=1) if self.several else parts[0]
