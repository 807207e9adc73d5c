"""Running mean and variance as a pure function of a state."""

from typing import NamedTuple

import torch
from torch import Tensor

EPS, CLIP = 1e-8, 10.0
"""Added to variances; the largest normalised value."""


class RunningStats(NamedTuple):
    """Mean, variance and count of all data so far, in float64."""

    count: Tensor  # type: ignore[assignment]
    mean: Tensor
    var: Tensor


def running_stats(shape: tuple[int, ...] = ()) -> RunningStats:
    """The statistics before any data: mean 0, variance 1, count 0."""
    return RunningStats(
        torch.zeros((), dtype=torch.float64),
        torch.zeros(shape, dtype=torch.float64),
        torch.ones(shape, dtype=torch.float64),
    )


def update_stats(stats: RunningStats, batch: Tensor, mask: Tensor | None = None) -> RunningStats:
    """The statistics after adding `batch`.

    Combines counts, means and variances of the two parts (Chan, Golub and LeVeque 1979). The
    variance is the population's, divided by n.

    Args:
        batch: [N, *shape]
        mask: [N] bool, true for rows that count.
    """
    if mask is not None:
        batch = batch[mask]
    if batch.shape[0] == 0:
        return stats
    return merge_stats(stats, batch_stats(batch))


def batch_stats(batch: Tensor) -> RunningStats:
    """The statistics of `[N, *shape]` values alone; N is at least 1."""
    batch = batch.to(torch.float64)
    count = torch.tensor(float(batch.shape[0]), dtype=torch.float64, device=batch.device)
    return RunningStats(count, batch.mean(0), batch.var(0, correction=0))


def merge_stats(stats: RunningStats, other: RunningStats) -> RunningStats:
    """The statistics of both parts together (Chan, Golub and LeVeque 1979)."""
    count, mean, var = other
    total = stats.count + count
    delta = mean - stats.mean
    squares = stats.var * stats.count + var * count + delta.square() * stats.count * count / total
    return RunningStats(total, stats.mean + delta * count / total, squares / total)


def normalise_with(
    stats: RunningStats, x: Tensor, *, eps: float = EPS, clip: float = CLIP, centre: bool = True
) -> Tensor:
    """`(x - mean) / sqrt(var + eps)` clipped to [-clip, clip], in x's dtype.

    Args:
        x: [..., *shape]
        centre: if False, only divides.
    """
    scale = torch.rsqrt(stats.var + eps).to(x.dtype)
    if centre:
        x = x - stats.mean.to(x.dtype)
    return (x * scale).clamp(-clip, clip)
