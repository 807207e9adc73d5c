"""Which pieces of a replay an update trains on, as the memory's receptive field decides, and what
a batch of them holds."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from retain.data.replay import Sample
from retain.errors import UsageError
from retain.nn.encoders import allowed_actions
from retain.ops import masked_mean
from retain.types import Carry, Obs, tree_map

MEGABYTE = 1 << 20
CARRY_FACTOR = 32
"""Stored carries may take up to this many times the memory of the replay's observations."""
CARRY_FLOOR = 256 * MEGABYTE
"""They may always take this much, in bytes: small observations need not mean small machines."""


class PieceSettings(Protocol):
    """The settings that pieces are cut by."""

    @property
    def batch_size(self) -> int:
        """Steps in an update."""

    @property
    def sequence_length(self) -> int:
        """Steps that a sequence trains on."""

    @property
    def burn_in(self) -> int:
        """Steps in front of those that only bring a stored carry up to date."""

    @property
    def n_step(self) -> int:
        """Rewards in a target before it bootstraps."""

    @property
    def store_carries(self) -> bool:
        """Whether sequences of an unbounded memory start at carries that acting left."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of the timeline: `history` rows, `length` rows that the losses read, successors.

    An unbounded memory's piece starts where the carry that acting left is stored, or, where none
    are, from nothing. A bounded one's history is rebuilt from the timeline: the steps that can
    still influence the first output.
    """

    length: int
    history: int
    n_step: int
    stored: bool
    """Whether pieces start at stored carries."""
    stride: int
    """Rows between stored carries, where sequences may start."""
    history_learns: bool
    """Whether history gets its gradient: where it is all that the memory will ever see, not where
    it only brings a carry up to date."""

    @property
    def rows(self) -> int:
        """Rows from the first that a loss reads on, those that its targets look ahead included."""
        return self.length + self.n_step - 1

    @property
    def span(self) -> int:
        """Rows of a piece altogether."""
        return self.history + self.rows


def pieces_of(config: PieceSettings, receptive_field: int | None, *, unrolls: bool) -> Pieces:
    """The pieces for a memory.

    Args:
        receptive_field: of the memory; None = unbounded.
        unrolls: `Memory.unrolls`: whether pieces are sequences where nothing is stored.
    Raises:
        UsageError: the minibatch is no whole number of pieces.
    """
    if receptive_field is None:
        length, stored = config.sequence_length, config.store_carries
        stride = max(1, length // 2) if stored else 1
        found = Pieces(length, config.burn_in, config.n_step, stored, stride, False)
    else:
        length = config.sequence_length if unrolls and receptive_field > 1 else 1
        found = Pieces(length, receptive_field - 1, config.n_step, False, 1, True)
    if config.batch_size % length:
        nearest = max(1, round(config.batch_size / length)) * length
        raise UsageError(
            f"batch_size {config.batch_size} is no multiple of the sequence length "
            f"{length}; nearest that is: {nearest}"
        )
    return found


def check_carries(*, carries: int, observations: int, sequence_length: int) -> None:
    """A replay's stored carries must not dwarf what they belong to.

    Args:
        carries: bytes that a full replay stores of them.
        observations: bytes that it stores of observations.
    Raises:
        UsageError: they do; gives the numbers and what to do about it.
    """
    most = max(CARRY_FACTOR * observations, CARRY_FLOOR)
    if carries <= most:
        return
    raise UsageError(
        f"the replay would store {carries / MEGABYTE:,.0f} MiB of carries for "
        f"{observations / MEGABYTE:,.0f} MiB of observations (expected at most "
        f"{most / MEGABYTE:,.0f}); raise sequence_length (now {sequence_length}), turn "
        "store_carries off and give burn_in, or choose a memory with a smaller carry"
    )


@dataclass
class Batch:
    """A sample with its observations prepared, and the features computed from it so far.

    Rows `[0, before)` are history, `[before, before + length)` the losses', the rest successors.
    """

    sample: Sample
    obs: Obs
    previous: list[Tensor]
    carries: tuple[Carry, ...]
    """Of each torso, before the first row."""
    before: int
    length: int
    alone: bool
    """Whether a piece is one step, which was drawn for what was done there."""
    features: Tensor = field(init=False)
    """`[length, N, F]` the critic's own, with gradient."""
    features_after: Tensor = field(init=False)
    """`[length + n - 1, N, F]` the critic's own at the successors, without gradient."""

    @property
    def mask(self) -> Tensor | None:
        """`[length, N]` steps that count; None where all do."""
        if self.alone:
            return None
        return self.sample.acted[self.before : self.before + self.length]

    @property
    def allowed_after(self) -> Tensor | None:
        """`[length + n - 1, N, actions]` actions that the successors allow; None where all do."""
        mask = allowed_actions(self.obs)
        return None if mask is None else mask[self.before + 1 :]

    @property
    def allowed(self) -> Tensor | None:
        """`[length, N, actions]` actions that the losses' rows allow; None where all do."""
        mask = allowed_actions(self.obs)
        return None if mask is None else mask[self.before : self.before + self.length]

    def mean(self, value: Tensor) -> Tensor:
        """Mean of `[K, length, N, ...]` over the steps that count."""
        if self.mask is None:
            return value.mean()
        mask = self.mask.view(1, *self.mask.shape, *[1] * (value.dim() - 3))
        return masked_mean(value, mask.expand_as(value))

    @property
    def action(self) -> Tensor:
        """`[length, N, ...]`"""
        return self.sample.action[self.before : self.before + self.length]

    def part(self, first: int, last: int | None = None) -> tuple[Obs, list[Tensor], Tensor]:
        """Observations, previous inputs and resets of rows `[first, last)`."""
        rows = slice(first, last)
        previous = [x[rows] for x in self.previous]
        return tree_map(lambda x: x[rows], self.obs), previous, self.sample.reset[rows]
