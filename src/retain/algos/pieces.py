"""The pieces of a replay that an update trains on, which depend on the memory's receptive field,
and a batch of such pieces."""

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
"""Stored carries may always take this many bytes, since small observations need not mean small
machines."""


class PieceSettings(Protocol):
    """The settings that decide how pieces are cut."""

    @property
    def batch_size(self) -> int:
        """Steps in an update."""

    @property
    def sequence_length(self) -> int:
        """Steps that each sequence trains on."""

    @property
    def burn_in(self) -> int:
        """Steps before the training steps that only refresh a stored carry."""

    @property
    def n_step(self) -> int:
        """Rewards in a target before it bootstraps."""

    @property
    def store_carries(self) -> bool:
        """Whether sequences of an unbounded memory start at carries that acting left."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of the timeline: `history` rows, `length` rows that the losses read, successors.

    A piece of an unbounded memory starts at a stored carry that acting left, or from a zero carry
    if none are stored. A bounded memory's history is rebuilt from the timeline: the steps that can
    still influence the first output.
    """

    length: int
    history: int
    n_step: int
    stored: bool
    """Whether pieces start at stored carries."""
    stride: int
    """Rows between stored carries, at which sequences may start."""
    history_learns: bool
    """Whether gradients reach the history: they do if the memory never sees anything else, but not
    if the history only refreshes a carry."""

    @property
    def rows(self) -> int:
        """Rows from the first one that a loss reads, including those that its targets look ahead
        to."""
        return self.length + self.n_step - 1

    @property
    def span(self) -> int:
        """Rows of a whole piece."""
        return self.history + self.rows


def pieces_of(config: PieceSettings, receptive_field: int | None, *, unrolls: bool) -> Pieces:
    """The pieces for a memory.

    Args:
        receptive_field: the memory's; None = unbounded.
        unrolls: `Memory.unrolls`, whether pieces are sequences even if no carries are stored.
    Raises:
        UsageError: the minibatch is not a whole number of pieces.
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
            f"batch_size {config.batch_size} is not a multiple of the sequence length "
            f"{length}; nearest that is: {nearest}"
        )
    return found


def check_carries(*, carries: int, observations: int, sequence_length: int) -> None:
    """Checks that a replay's stored carries are not far larger than its observations.

    Args:
        carries: bytes of carries that a full replay stores.
        observations: bytes of observations that a full replay stores.
    Raises:
        UsageError: the carries are too large; gives the numbers and what to change.
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
    """A sample with prepared observations, and the features computed from it so far.

    Rows `[0, before)` are history, `[before, before + length)` are for the losses, the rest are
    successors.
    """

    sample: Sample
    obs: Obs
    previous: list[Tensor]
    carries: tuple[Carry, ...]
    """The carry of each torso before the first row."""
    before: int
    length: int
    alone: bool
    """Whether a piece is one step, drawn for the action taken there."""
    features: Tensor = field(init=False)
    """`[length, N, F]` features of the critic's torso, with gradient."""
    features_after: Tensor = field(init=False)
    """`[length + n - 1, N, F]` features of the critic's torso at the successors, without
    gradient."""

    @property
    def mask(self) -> Tensor | None:
        """`[length, N]` true for steps that count; None if all do."""
        if self.alone:
            return None
        return self.sample.acted[self.before : self.before + self.length]

    @property
    def allowed_after(self) -> Tensor | None:
        """`[length + n - 1, N, actions]` actions that the successors allow; None if all are
        allowed."""
        mask = allowed_actions(self.obs)
        return None if mask is None else mask[self.before + 1 :]

    @property
    def allowed(self) -> Tensor | None:
        """`[length, N, actions]` actions that the losses' rows allow; None if all are allowed."""
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
        """`[length, N, ...]` actions of the losses' rows."""
        return self.sample.action[self.before : self.before + self.length]

    def part(self, first: int, last: int | None = None) -> tuple[Obs, list[Tensor], Tensor]:
        """Observations, previous inputs and resets of rows `[first, last)`."""
        rows = slice(first, last)
        previous = [x[rows] for x in self.previous]
        return tree_map(lambda x: x[rows], self.obs), previous, self.sample.reset[rows]
