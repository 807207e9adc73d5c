"""Statistics of few seeds, against scipy and numbers worked by hand."""

import numpy as np
import pytest
from scipy import stats

from retain.study.statistics import (
    improvement,
    iqm,
    iqm_difference,
    iqm_interval,
    rank_test,
    rank_test_floor,
)


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    assert iqm([1, 2, 3, 4]) == pytest.approx(2.5)
    assert iqm([100, 2, 3, -50]) == pytest.approx(2.5)
    # Of five, the middle counts whole and its neighbours three quarters of a part each.
    assert iqm([0, 1, 2, 3, 40]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 3) / 2.5)
    values = np.random.default_rng(0).normal(size=400)
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert iqm(np.ones((3, 5))).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("ties", [False, True])
def test_the_rank_test_is_scipys_exact_one(ties):
    generator = np.random.default_rng(3)
    for shift in (0.0, 0.7, 3.0):
        a = generator.normal(size=5) + shift
        b = generator.normal(size=6)
        if ties:
            a, b = np.round(a), np.round(b)
            ours = rank_test(a, b)
            every = stats.permutation_test(
                (a, b), lambda x, y: abs(stats.rankdata(np.r_[x, y])[: len(x)].sum() - 30),
                permutation_type="independent", alternative="greater", n_resamples=np.inf,
            )  # fmt: skip
            assert ours == pytest.approx(every.pvalue)
        else:
            assert rank_test(a, b) == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue)


def test_the_floor_is_what_complete_separation_gives():
    for n in (2, 3, 4, 5, 6):
        assert rank_test(np.arange(n), np.arange(n) + 100) == pytest.approx(rank_test_floor(n, n))
    assert rank_test_floor(3, 3) == pytest.approx(0.1)
    assert rank_test_floor(5, 5) == pytest.approx(2 / 252)


def test_many_runs_are_sampled():
    a, b = np.arange(30.0), np.arange(30.0) + 5
    expected = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert rank_test(a, b) == pytest.approx(expected, rel=0.1)


def test_probability_of_improvement_counts_pairs_and_half_of_ties():
    assert improvement([3, 4], [1, 2]).value == 1.0
    assert improvement([1, 3], [2, 2]).value == 0.5
    found = improvement([1, 2, 3], [2, 2, 2])
    assert found.value == pytest.approx((0 + 0.5 + 1) / 3)
    assert found.low <= found.value <= found.high


def test_intervals_cover_what_they_should():
    generator = np.random.default_rng(1)
    inside = 0
    for seed in range(200):
        found = iqm_interval(generator.normal(size=20), seed=seed)
        inside += found.low <= 0 <= found.high
    assert 0.86 < inside / 200 <= 1.0
    apart = iqm_difference(generator.normal(size=10) + 5, generator.normal(size=10))
    assert apart.low > 2
    assert apart.value == pytest.approx(5, abs=1.5)
