"""Which pieces of a replay an update trains on, as the memory's receptive field decides."""

from dataclasses import dataclass
from typing import Protocol

from retain.errors import UsageError


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


@dataclass(frozen=True)
class Pieces:
    """Pieces of the timeline: `history` rows, `length` rows that the losses read, successors.

    An unbounded memory's piece starts where the carry that acting left is stored. A bounded one's
    history is rebuilt from the timeline: the steps that can still influence the first output.
    """

    length: int
    history: int
    n_step: int
    stored: bool
    """Whether pieces start at stored carries."""
    stride: int
    """Rows between stored carries, where sequences may start."""

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
        length = config.sequence_length
        found = Pieces(length, config.burn_in, config.n_step, True, max(1, length // 2))
    else:
        length = config.sequence_length if unrolls and receptive_field > 1 else 1
        found = Pieces(length, receptive_field - 1, config.n_step, False, 1)
    if config.batch_size % length:
        nearest = max(1, round(config.batch_size / length)) * length
        raise UsageError(
            f"batch_size {config.batch_size} is no multiple of the sequence length "
            f"{length}; nearest that is: {nearest}"
        )
    return found
