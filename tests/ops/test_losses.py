"""PPO's losses against worked numbers; masked steps enter nothing."""

import pytest
import torch

from retain.ops import (
    approx_kl,
    explained_variance,
    masked_mean,
    masked_std,
    normalise,
    normalise_with,
    policy_loss,
    running_stats,
    update_stats,
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
        advantage=torch.tensor([1.0, -1.0]), clip=(0.1, 0.4),
    )  # fmt: skip
    assert loss.loss.item() == pytest.approx(-(1.4 - 0.9) / 2)


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


def test_huber_value_loss_is_linear_far_out():
    loss = value_loss(value=torch.tensor([10.0]), target=torch.tensor([0.0]), huber=1.0)
    assert loss.loss.item() == pytest.approx(9.5)


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
        return [*policy, *critic, log_prob.grad, value.grad]

    for clean, dirty in zip(outcome(0.0), outcome(poison), strict=True):
        torch.testing.assert_close(dirty, clean, rtol=0, atol=0)


@pytest.mark.parametrize("poison", POISON)
def test_masked_moments_ignore_the_masked(poison):
    x, mask = torch.randn(40), torch.rand(40) > 0.5
    filled = x.masked_fill(~mask, poison)
    torch.testing.assert_close(masked_mean(filled, mask), x[mask].mean())
    torch.testing.assert_close(masked_std(filled, mask), x[mask].std())
    scaled = normalise(filled, mask)
    torch.testing.assert_close(scaled[mask], (x[mask] - x[mask].mean()) / x[mask].std())
    assert torch.all(scaled[~mask] == 0)


def test_normalise_leaves_a_single_step_alone():
    assert normalise(torch.tensor([3.0])).item() == 3.0
    one = torch.tensor([False, True])
    assert normalise(torch.tensor([9.0, 3.0]), one).tolist() == [0.0, 3.0]
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


def test_running_moments_in_parts_equal_those_of_the_whole():
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(1000, 4)
    stats = running_stats((4,))
    for part in x.split([1, 99, 400, 500]):
        stats = update_stats(stats, part)
    torch.testing.assert_close(stats.mean, x.double().mean(0))
    torch.testing.assert_close(stats.var, x.double().var(0, correction=0))
    scaled = normalise_with(stats, x)
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert normalise_with(stats, torch.full((4,), 1e9)).tolist() == [10.0] * 4


def test_running_moments_ignore_masked_rows():
    x = torch.randn(6, 2)
    mask = torch.tensor([True, False, True, True, False, True])
    poisoned = x.masked_fill(~mask.unsqueeze(1), float("nan"))
    masked = update_stats(running_stats((2,)), poisoned, mask)
    for one, other in zip(masked, update_stats(running_stats((2,)), x[mask]), strict=True):
        torch.testing.assert_close(one, other)
