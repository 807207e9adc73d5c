"""PPO's losses against worked numbers; masked steps enter nothing."""

import pytest
import torch

from retain.ops import (
    approx_kl,
    explained_variance,
    masked_mean,
    masked_std,
    normalise,
    policy_loss,
    q_loss,
    quantile_huber_loss,
    value_loss,
)

POISON = (float("nan"), float("inf"), 1e6)


def test_policy_loss_by_hand():
    ratio = torch.tensor([0.5, 1.0, 1.5, 1.5, 0.5])
    advantage = torch.tensor([1.0, 2.0, 1.0, -1.0, -1.0])
    loss = policy_loss(
        log_prob=ratio.log(), old_log_prob=torch.zeros(5), advantage=advantage, clip=0.2
    )
    # min(ratio A, clipped A): .5, 2, 1.2, -1.5, -.8
    assert loss.loss.item() == pytest.approx(-(0.5 + 2 + 1.2 - 1.5 - 0.8) / 5)
    assert loss.clip_fraction.item() == pytest.approx(4 / 5)
    assert loss.max_log_ratio.item() == pytest.approx(abs(torch.tensor(0.5).log().item()))


def test_policy_clip_may_differ_upwards():
    loss = policy_loss(
        log_prob=torch.tensor([2.0, 0.5]).log(), old_log_prob=torch.zeros(2),
        advantage=torch.tensor([3.0, -1.0]), clip=(0.1, 0.4),
    )  # fmt: skip
    # Unequal advantages: with equal ones, swapped bounds give the same loss.
    assert loss.loss.item() == pytest.approx(-(3 * 1.4 - 0.9) / 2)


def test_gradient_of_the_policy_loss_is_zero_where_clipping_binds():
    log_prob = torch.tensor([1.5, 0.5, 1.5, 0.5]).log().requires_grad_()
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    policy_loss(
        log_prob=log_prob, old_log_prob=torch.zeros(4), advantage=advantage, clip=0.2
    ).loss.backward()
    assert (log_prob.grad != 0).tolist() == [False, True, True, False]


def test_value_loss_is_half_the_mean_square():
    loss = value_loss(value=torch.tensor([1.0, 3.0]), target=torch.tensor([0.0, 0.0]))
    assert loss.loss.item() == pytest.approx(0.5 * (1 + 9) / 2)
    assert loss.clip_fraction.item() == 0.0


def test_clipped_value_loss_takes_the_larger_error_and_reports_the_share():
    value, old = torch.tensor([1.0, 1.0, 0.3]), torch.tensor([0.0, 0.0, 0.0])
    target = torch.tensor([2.0, 0.0, 1.0])
    loss = value_loss(value=value, target=target, old_value=old, value_clip=0.5)
    # errors plain: 1, 1, .7; clipped to .5, .5, .3: 1.5, .5, .7
    assert loss.loss.item() == pytest.approx(0.5 * (1.5**2 + 1 + 0.7**2) / 3)
    assert loss.clip_fraction.item() == pytest.approx(2 / 3)


def test_the_value_clip_is_about_the_old_value_not_about_zero():
    """Moved by 0.1 from 0.9, within the clip of 0.2: the plain error of 1 counts, and nothing is clipped."""
    one = torch.ones(1)
    loss = value_loss(value=one, target=0 * one, old_value=0.9 * one, value_clip=0.2)
    assert loss.loss.item() == pytest.approx(0.5)
    assert loss.clip_fraction.item() == 0.0


@pytest.mark.parametrize("clip", [None, 100.0])
def test_huber_value_loss_is_square_near_and_linear_far_out(clip):
    far, near = torch.tensor([10.0]), torch.tensor([1.0])
    options = {"target": torch.zeros(1), "old_value": torch.zeros(1), "value_clip": clip}
    assert value_loss(value=far, huber=2.0, **options).loss.item() == 2 * (10 - 1)
    assert value_loss(value=near, huber=2.0, **options).loss.item() == 0.5


@pytest.mark.parametrize("huber", [0.0, -1.0, float("nan")])
def test_a_huber_threshold_that_means_nothing_is_refused(huber):
    with pytest.raises(ValueError, match="huber is"):
        value_loss(value=torch.ones(1), target=torch.ones(1), huber=huber)


@pytest.mark.parametrize("clip", [0.0, -1.0])
def test_a_value_clip_that_would_freeze_the_value_is_refused(clip):
    with pytest.raises(ValueError, match="value_clip is"):
        value_loss(value=torch.ones(1), target=torch.ones(1), old_value=torch.ones(1),
                   value_clip=clip)  # fmt: skip
    with pytest.raises(ValueError, match="needs old_value"):
        value_loss(value=torch.ones(1), target=torch.ones(1), value_clip=0.1)


def test_rescaled_rewards_and_threshold_rescale_the_loss():
    value, old, target = torch.randn(3, 50)
    plain = value_loss(value=value, target=target, old_value=old, value_clip=0.3)
    scaled = value_loss(value=7 * value, target=7 * target, old_value=7 * old, value_clip=7 * 0.3)
    torch.testing.assert_close(scaled.loss, 49 * plain.loss)
    assert scaled.clip_fraction == plain.clip_fraction


@pytest.mark.parametrize("poison", POISON)
def test_masked_steps_enter_no_loss_no_metric_and_no_gradient(poison):
    mask = torch.tensor([True, True, False, True, False])
    columns = [torch.randn(5) for _ in range(5)]

    def outcome(fill):
        filled = [c.masked_fill(~mask, fill).requires_grad_() for c in columns]
        log_prob, old, advantage, value, target = filled
        policy = policy_loss(log_prob=log_prob, old_log_prob=old, advantage=advantage,
                             clip=0.2, mask=mask)  # fmt: skip
        critic = value_loss(value=value, target=target, old_value=old, value_clip=0.2, mask=mask)
        (policy.loss + critic.loss).backward()
        return [policy.loss, *policy.statistics, *critic, log_prob.grad, value.grad]

    for clean, dirty in zip(outcome(0.0), outcome(poison), strict=True):
        torch.testing.assert_close(dirty, clean, rtol=0, atol=0)


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("options", [{}, {"huber": 0.5}, {"value_clip": 0.2}])
def test_losses_of_masked_data_are_those_of_the_unmasked_steps_alone(poison, options):
    """Against the steps picked out, not against another mask: a mean over all steps is wrong too."""
    torch.manual_seed(1)
    mask = torch.rand(30) > 0.4
    columns = [0.5 * torch.randn(30) for _ in range(5)]

    def outcome(log_prob, old, advantage, value, target, mask=None):
        policy = policy_loss(log_prob=log_prob, old_log_prob=old, advantage=advantage,
                             clip=0.2, mask=mask)  # fmt: skip
        critic = value_loss(value=value, target=target, old_value=old, mask=mask, **options)
        return policy.loss, *policy.statistics, *critic

    poisoned = outcome(*(c.masked_fill(~mask, poison) for c in columns), mask=mask)
    for ours, expected in zip(poisoned, outcome(*(c[mask] for c in columns)), strict=True):
        torch.testing.assert_close(ours, expected)


def test_losses_are_zero_where_nothing_is_unmasked():
    x, nothing = torch.full((3,), float("nan")), torch.zeros(3, dtype=torch.bool)
    policy = policy_loss(log_prob=x, old_log_prob=x, advantage=x, clip=0.2, mask=nothing)
    critic = value_loss(value=x, target=x, mask=nothing)
    assert [float(scalar) for scalar in (policy.loss, *policy.statistics, *critic)] == [0.0] * 6
    assert masked_mean(x, nothing).item() == masked_std(x, nothing).item() == 0.0


@pytest.mark.parametrize("step", [1e-2, 1e-4])
def test_kl_of_a_small_step_does_not_drown_in_rounding(step):
    """k3 of a log-ratio x is x^2 / 2 + x^3 / 6: at 1e-4, below the rounding of a ratio near 1."""
    log_prob, old = torch.full((64,), step, requires_grad=True), torch.zeros(64)
    loss = policy_loss(log_prob=log_prob, old_log_prob=old, advantage=torch.ones(64), clip=0.2)
    alone = approx_kl(log_prob=log_prob, old_log_prob=old)
    expected = step**2 / 2 + step**3 / 6
    assert loss.approx_kl.item() == pytest.approx(expected, rel=1e-3)
    assert alone.item() == pytest.approx(expected, rel=1e-3)
    metrics = (loss.clip_fraction, loss.approx_kl, loss.max_log_ratio, alone)
    assert not any(metric.requires_grad for metric in metrics)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_keep_the_dtype(dtype):
    x, y = torch.randn(2, 8, dtype=dtype)
    mask = torch.arange(8) > 2
    for m in (None, mask):
        policy = policy_loss(log_prob=x, old_log_prob=y, advantage=y, clip=0.2, mask=m)
        critic = value_loss(value=x, target=y, old_value=y, value_clip=0.2, mask=m)
        rest = (normalise(x, m), explained_variance(value=x, target=y, mask=m), masked_std(x, m))
        assert {out.dtype for out in (policy.loss, *policy.statistics, *critic, *rest)} == {dtype}


@pytest.mark.parametrize("constant", [0.1, 3.3, 1000.0])
@pytest.mark.parametrize("count", [7, 1024])
def test_equal_numbers_have_no_spread_to_amplify(constant, count):
    """A rounded mean of equal numbers is not one of them; nothing may divide by that difference."""
    x, mask = torch.full((count,), constant), torch.arange(count) > 2
    for m in (None, mask):
        assert normalise(x, m).abs().max().item() < 1e-5
        for value in (torch.zeros(count), torch.randn(count)):
            assert torch.isnan(explained_variance(value=value, target=x, mask=m))


@pytest.mark.parametrize("poison", POISON)
def test_masked_moments_ignore_the_masked(poison):
    x, mask = torch.randn(40), torch.rand(40) > 0.5
    filled = x.masked_fill(~mask, poison)
    torch.testing.assert_close(masked_mean(filled, mask), x[mask].mean())
    torch.testing.assert_close(masked_std(filled, mask), x[mask].std())
    columns = {"log_prob": x / 9, "old_log_prob": x / 8}
    kl = approx_kl(**{k: v.masked_fill(~mask, poison) for k, v in columns.items()}, mask=mask)
    torch.testing.assert_close(kl, approx_kl(**{k: v[mask] for k, v in columns.items()}))
    target = 2 * x + x.square()
    explained = explained_variance(
        value=filled, target=target.masked_fill(~mask, poison), mask=mask
    )
    torch.testing.assert_close(explained, 1 - (target - x)[mask].var() / target[mask].var())
    scaled = normalise(filled, mask)
    torch.testing.assert_close(scaled[mask], (x[mask] - x[mask].mean()) / x[mask].std())
    assert torch.all(scaled[~mask] == 0)


def test_normalise_leaves_a_single_step_alone():
    assert normalise(torch.tensor([3.0])).item() == 3.0
    one = torch.tensor([False, True])
    assert normalise(torch.tensor([9.0, 3.0]), one).tolist() == [0.0, 3.0]
    assert masked_std(torch.tensor([9.0, 3.0]), one).item() == 0.0
    assert not normalise(torch.tensor([9.0, 3.0]), torch.tensor([False, False])).any()
    assert torch.isfinite(normalise(torch.full((4,), 2.0))).all()


def test_approx_kl_estimates_the_kl():
    torch.manual_seed(0)
    old, new = torch.tensor([0.2, 0.5, 0.3]).log(), torch.tensor([0.3, 0.4, 0.3]).log()
    action = torch.multinomial(old.exp(), 200_000, replacement=True)
    estimate = approx_kl(log_prob=new[action], old_log_prob=old[action])
    exact = (old.exp() * (old - new)).sum()
    assert estimate.item() == pytest.approx(exact.item(), rel=0.02)


def test_explained_variance_marks():
    target = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(value=target, target=target).item() == 1.0
    assert explained_variance(value=torch.zeros(3), target=target).item() == pytest.approx(0.0)
    assert torch.isnan(explained_variance(value=target, target=torch.ones(3)))


def test_q_loss_by_hand():
    value = torch.tensor([[1.0, 3.0], [0.0, 2.0]])  # two critics, two steps
    target = torch.tensor([0.0, 1.0])
    # half squares: .5, 2 | 0, .5; a mean for each critic, then their sum
    assert q_loss(value=value, target=target).item() == pytest.approx(1.25 + 0.25)
    weighted = q_loss(value=value, target=target, weight=torch.tensor([2.0, 0.5]))
    assert weighted.item() == pytest.approx((1 + 1) / 2 + (0 + 0.25) / 2)
    masked = q_loss(value=value, target=target, mask=torch.tensor([False, True]))
    assert masked.item() == pytest.approx(2 + 0.5)
    huber = q_loss(value=value, target=target, huber=1.0)
    assert huber.item() == pytest.approx((0.5 + 1.5) / 2 + (0 + 0.5) / 2)


@pytest.mark.parametrize("poison", POISON)
def test_masked_steps_enter_no_q_loss(poison):
    value = torch.tensor([[1.0, 3.0]], requires_grad=True)
    mask = torch.tensor([True, False])
    target = torch.tensor([0.0, poison])
    loss = q_loss(value=value, target=target, mask=mask)
    assert loss.item() == 0.5
    loss.backward()
    assert value.grad.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("target", "huber", "expected"),
    [
        ([1.0], None, 0.25 * 1 + 0.25 * 1),
        ([1.0], 1.0, 0.25 * 0.5 + 0.25 * 0.5),
        ([1.0], 2.0, 0.25 * 0.25 + 0.25 * 0.25),
        ([1.0, 3.0], None, 0.25 * (1 + 3) / 2 + (0.25 * 1 + 0.75 * 1) / 2),
        ([1.0, 3.0], 1.0, 0.25 * (0.5 + 2.5) / 2 + (0.25 * 0.5 + 0.75 * 0.5) / 2),
    ],
)
def test_quantile_huber_loss_worked_by_hand(target, huber, expected):
    """Quantiles 0 and 2 at tau = 1/4 and 3/4."""
    value, rows = torch.tensor([[[0.0, 2.0]]]), torch.tensor([target])
    found = quantile_huber_loss(value=value, target=rows, huber=huber)
    assert found.item() == pytest.approx(expected)
    both = quantile_huber_loss(value=value.expand(2, 1, 2), target=rows, huber=huber)
    assert both.item() == pytest.approx(2 * expected)
    half = quantile_huber_loss(value=value, target=rows, huber=huber, weight=torch.tensor([0.5]))
    assert half.item() == pytest.approx(expected / 2)
    padded = torch.cat((value, torch.full_like(value, 1e6)), dim=1)
    masked = quantile_huber_loss(
        value=padded, target=rows.expand(2, -1), huber=huber, mask=torch.tensor([True, False])
    )
    assert masked.item() == pytest.approx(expected)


def test_quantile_regression_finds_the_quantiles():
    sample = torch.arange(100.0).expand(1, 100)
    value = torch.full((1, 1, 4), 50.0, requires_grad=True)
    optimizer = torch.optim.Adam([value], lr=1.0)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 1.0 - step / 150
        optimizer.zero_grad()
        quantile_huber_loss(value=value, target=sample, huber=None).backward()
        optimizer.step()
    assert value.flatten().tolist() == pytest.approx([12.5, 37.5, 62.5, 87.5], abs=1.0)


def test_two_steps_that_count_have_the_spread_of_two():
    x = torch.tensor([1.0, 3.0, 100.0])
    found = normalise(x, torch.tensor([True, True, False]))
    torch.testing.assert_close(found[:2], torch.tensor([-1.0, 1.0]) / 2**0.5)
