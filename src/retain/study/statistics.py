"""Statistics for a handful of seeds (Agarwal et al. 2021, arXiv:2108.13264)."""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
EXACT = 200_000
"""Largest number of permutations that the rank test counts exactly."""


class Interval(NamedTuple):
    """An estimate and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def iqm(values: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Interquartile mean: the mean of the middle half, without a quarter at each end; a value may
    count in part."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=axis)
    n = ordered.shape[axis]
    ends = np.arange(n + 1) / n
    weight = np.clip(np.minimum(ends[1:], 0.75) - np.maximum(ends[:-1], 0.25), 0.0, None) * 2
    result: NDArray[np.float64] = np.moveaxis(ordered, axis, -1) @ weight
    return result


def _resampled(values: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    index = generator.integers(0, len(values), (RESAMPLES, len(values)))
    return iqm(values[index])


def iqm_interval(values: ArrayLike, seed: int = 0) -> Interval:
    """The interquartile mean with its percentile bootstrap interval over seeds."""
    array = np.asarray(values, dtype=np.float64)
    found = _resampled(array, np.random.default_rng(seed))
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(float(iqm(array)), float(low), float(high))


def iqm_difference(one: ArrayLike, two: ArrayLike, seed: int = 0) -> Interval:
    """iqm(one) - iqm(two); each is resampled independently."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(two, dtype=np.float64)
    generator = np.random.default_rng(seed)
    found = _resampled(a, generator) - _resampled(b, generator)
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(float(iqm(a) - iqm(b)), float(low), float(high))


def improvement(one: ArrayLike, two: ArrayLike, seed: int = 0) -> Interval:
    """Probability that a run of `one` ends above a run of `two`; a tie counts as half."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(two, dtype=np.float64)
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(a), (RESAMPLES, len(a)))
    columns = generator.integers(0, len(b), (RESAMPLES, len(b)))
    found = wins[rows[:, :, None], columns[:, None, :]].mean((1, 2))
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(float(wins.mean()), float(low), float(high))


def rank_test_floor(n: int, m: int) -> float:
    """The smallest two-sided p-value that a rank test of n against m runs can ever reach."""
    return min(1.0, 2 / comb(n + m, n))


def rank_test(one: ArrayLike, two: ArrayLike, seed: int = 0) -> float:
    """Two-sided p-value of the Mann-Whitney test, by counting permutations: all of them, or `EXACT`
    random ones if there are more."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(two, dtype=np.float64)
    every = np.concatenate((a, b))
    _, place, count = np.unique(every, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # ties share the mean of theirs
    expected = len(a) * (len(every) + 1) / 2
    observed = abs(rank[: len(a)].sum() - expected)
    total = comb(len(every), len(a))
    if total <= EXACT:
        chosen = np.array(list(combinations(range(len(every)), len(a))))
        sums = rank[chosen].sum(1)
    else:
        generator = np.random.default_rng(seed)
        order = generator.permuted(np.tile(rank, (EXACT, 1)), axis=1)
        sums = order[:, : len(a)].sum(1)
    return float(np.mean(np.abs(sums - expected) >= observed - 1e-9))
