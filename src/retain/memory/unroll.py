"""Handles resets inside one fused recurrent call.

A fused kernel takes a batch of sequences but no resets. Two layouts make it exact nevertheless:

- *flush*: one extra step before each reset, on which constant weights close every gate, so that
  the state becomes exactly 0 and no gradient passes. Rows with fewer resets are filled up at the
  end with *hold* steps that keep the state. Length T + R for R resets in the busiest row.
- *split*: every piece between resets becomes its own row. The length is that of the longest piece,
with more rows; better when episodes are very short.

Both layouts only rearrange: a gather moves the real steps' inputs into the layout, and another
moves their outputs back. A cost model chooses the cheaper layout for each batch.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GATE = 1e4
"""Weight of the flag features: sigmoid(-1e4) is exactly 0 and sigmoid(1e4) exactly 1."""

STEP_ROWS = 2.5
"""The cost of a fused kernel's step beyond its rows, in rows (fitted to benchmarks/unroll.py at H =
128 on one core: 11 us at 2 rows, 23 us at 8, 95 us at 32)."""


class Flush(NamedTuple):
    """Positions of steps in the flush layout of length S = T + R."""

    length: int
    slot: Tensor
    """[T, B] position of each real step."""
    flags: Tensor
    """[S, B, 2] float: 1 on flush steps, 1 on hold steps, zeros on real ones."""


class Split(NamedTuple):
    """Positions of steps in the split layout of P pieces, the longest with L steps."""

    length: int
    pieces: int
    slot: Tensor
    """[T, B] index of each real step into the flattened [L, P] layout."""
    first: Tensor
    """[B] the row that continues each environment's carry."""
    last: Tensor
    """[B] the row that each environment ends in."""
    flags: Tensor
    """[L, P, 2] float, as in `Flush`; no step flushes, and the steps after a piece hold."""


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)


def plan(reset: Tensor) -> Flush | Split | None:
    """The cheaper layout for `reset` `[T, B]`; None if no row resets after its first step.

    Resets at the first step need no layout: they clear the incoming carry.
    """
    T, B = reset.shape
    if T == 1:
        return None
    inside = reset.cpu().numpy().copy()
    inside[0] = False
    counts = inside.sum(0)
    busiest = int(counts.max())
    if busiest == 0:
        return None
    pieces = B + int(counts.sum())
    piece_of = np.cumsum(inside.T.ravel()).reshape(B, T).T + np.arange(B)  # [T, B], row by row
    sizes = np.bincount(piece_of.ravel(), minlength=pieces)
    longest = int(sizes.max())
    if longest * (STEP_ROWS + pieces) < (T + busiest) * (STEP_ROWS + B):
        return _split(inside, piece_of, sizes, longest, reset.device)
    return _flush(inside, busiest, reset.device)


def _flush(inside: NDArray[np.bool_], busiest: int, device: torch.device) -> Flush:
    T, B = inside.shape
    slot = np.cumsum(inside, axis=0) + np.arange(T)[:, None]
    flags = np.zeros((T + busiest, B, 2), dtype=np.float32)
    flags[..., 1] = 1.0
    np.put_along_axis(flags[..., 1], slot, 0.0, axis=0)
    t, b = np.nonzero(inside)
    flags[slot[t, b] - 1, b] = (1.0, 0.0)
    return Flush(T + busiest, _tensor(slot, device), _tensor(flags, device))


def _split(
    inside: NDArray[np.bool_],
    piece_of: NDArray[np.int64],
    sizes: NDArray[np.int64],
    longest: int,
    device: torch.device,
) -> Split:
    T, _ = inside.shape
    starts = inside.copy()
    starts[0] = True
    time = np.arange(T)[:, None]
    began = np.maximum.accumulate(np.where(starts, time, 0), axis=0)
    slot = (time - began) * len(sizes) + piece_of
    flags = np.zeros((longest, len(sizes), 2), dtype=np.float32)
    flags[..., 1] = np.arange(longest)[:, None] >= sizes
    return Split(
        longest,
        len(sizes),
        _tensor(slot, device),
        _tensor(piece_of[0], device),
        _tensor(piece_of[-1], device),
        _tensor(flags, device),
    )


def to_slots(x: Tensor, layout: Flush | Split) -> Tensor:
    """`[T, B, D]` real steps into the layout, `[S, B, D]` or `[L, P, D]`, zeros elsewhere."""
    T, B, D = x.shape
    if isinstance(layout, Flush):
        out = x.new_zeros(layout.length, B, D)
        return out.scatter(0, layout.slot.unsqueeze(-1).expand(T, B, D), x)
    out = x.new_zeros(layout.length * layout.pieces, D)
    flat = out.index_copy(0, layout.slot.view(-1), x.reshape(T * B, D))
    return flat.view(layout.length, layout.pieces, D)


def from_slots(x: Tensor, layout: Flush | Split) -> Tensor:
    """The real steps' `[T, B, H]` out of the layout."""
    T, B = layout.slot.shape
    if isinstance(layout, Flush):
        return x.gather(0, layout.slot.unsqueeze(-1).expand(T, B, x.shape[-1]))
    return x.reshape(-1, x.shape[-1]).index_select(0, layout.slot.view(-1)).view(T, B, -1)
