"""Entropy estimates are judged by their gradients: values alone cannot tell right from wrong."""

import pytest
import torch

from retain.ops import reparameterised_entropy, score_function_entropy


def exact_expectation(estimator, logits):
    """The estimator's expected value and gradient over a categorical, summed over every action."""
    log_prob = torch.log_softmax(logits, 0)
    weight = log_prob.detach().exp()
    mean = (weight * estimator(log_prob)).sum()
    return mean.item(), torch.autograd.grad(mean, logits)[0]


def test_score_function_estimate_is_unbiased_in_value_and_gradient():
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    log_prob = torch.log_softmax(logits, 0)
    entropy = -(log_prob.exp() * log_prob).sum()
    truth = torch.autograd.grad(entropy, logits)[0]
    value, gradient = exact_expectation(score_function_entropy, logits)
    assert value == pytest.approx(entropy.item(), abs=1e-12)
    torch.testing.assert_close(gradient, truth)


def test_naive_estimate_has_the_right_value_and_no_gradient():
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    right, _ = exact_expectation(score_function_entropy, logits)
    naive, gradient = exact_expectation(lambda log_prob: -log_prob, logits)
    assert naive == pytest.approx(right, abs=1e-12)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_reparameterised_estimate_follows_the_sample():
    """a = sigma eps: log N(a; sigma) = -log sigma - eps^2 / 2 + const, so dH / d log sigma is 1."""
    log_std = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(16, dtype=torch.float64)
    action = log_std.exp() * noise
    log_prob = -log_std - 0.5 * (action / log_std.exp()).square()
    estimate = reparameterised_entropy(log_prob)
    assert torch.equal(estimate, -log_prob)
    torch.testing.assert_close(
        torch.autograd.grad(estimate.mean(), log_std)[0], torch.ones((), dtype=torch.float64)
    )
