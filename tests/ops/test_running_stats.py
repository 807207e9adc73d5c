"""Running moments: in parts as of the whole, in float64, without the masked."""

import pytest
import torch

from retain.ops import normalise_with, running_stats, update_stats


def test_running_moments_in_parts_equal_those_of_the_whole():
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(1000, 4)
    stats = running_stats((4,))
    for part in x.split([1, 99, 400, 500]):
        stats = update_stats(stats, part)
    torch.testing.assert_close(stats.mean, x.double().mean(0))
    torch.testing.assert_close(stats.var, x.double().var(0, correction=0))
    assert stats.count.item() == 1000
    scaled = normalise_with(stats, x)
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.var(0, correction=0), torch.ones(4))
    assert normalise_with(stats, torch.full((4,), 1e9)).tolist() == [10.0] * 4
    assert normalise_with(stats, torch.full((4,), -1e9), clip=3.0).tolist() == [-3.0] * 4


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e6])
def test_running_moments_ignore_masked_rows(poison):
    x = torch.randn(6, 2)
    mask = torch.tensor([True, False, True, True, False, True])
    poisoned = x.masked_fill(~mask.unsqueeze(1), poison)
    masked = update_stats(running_stats((2,)), poisoned, mask)
    for one, other in zip(masked, update_stats(running_stats((2,)), x[mask]), strict=True):
        torch.testing.assert_close(one, other)


def test_an_empty_batch_changes_nothing():
    seen = update_stats(running_stats((2,)), torch.randn(5, 2))
    nothing = torch.zeros(5, dtype=torch.bool)
    for stats in (seen, running_stats((2,))):
        for same in (
            update_stats(stats, torch.empty(0, 2)),
            update_stats(stats, torch.full((5, 2), float("nan")), nothing),
        ):
            assert all(torch.equal(*pair) for pair in zip(stats, same, strict=True))


def test_the_update_is_pure():
    stats = running_stats((2,))
    update_stats(stats, torch.randn(5, 2))
    assert stats.count.item() == 0
    assert stats.mean.tolist() == [0.0, 0.0]
    assert stats.var.tolist() == [1.0, 1.0]


def test_a_large_offset_does_not_cost_the_variance_its_digits():
    """In float32 the spread of 1 around 1e6 would be lost within a batch."""
    torch.manual_seed(0)
    x = (1e6 + torch.randn(4000)).float()
    stats = running_stats()
    for part in x.split(100):
        stats = update_stats(stats, part)
    assert stats.var.dtype == torch.float64
    assert stats.var.item() == pytest.approx(x.double().var(correction=0).item(), rel=1e-9)


def test_dividing_only_keeps_the_sign_and_a_constant_stays_finite():
    stats = update_stats(running_stats(), torch.tensor([1.0, 3.0]))  # mean 2, std 1
    assert normalise_with(stats, torch.tensor(0.5), centre=False).item() == pytest.approx(0.5)
    assert normalise_with(stats, torch.tensor(0.5)).item() == pytest.approx(-1.5)
    constant = update_stats(running_stats(), torch.full((9,), 4.0))
    assert constant.var.item() == 0.0
    assert normalise_with(constant, torch.tensor(4.0)).item() == 0.0
