"""Entropy estimates with the right gradient, where no closed form exists.

The entropy is H = -E_{a ~ pi}[log pi(a)]. The mean of -log pi over stored actions estimates the
entropy, but not its gradient: on-policy E[grad log pi(a)] = 0, so the gradient of such a bonus has
mean zero, and off-policy it pushes away from the policy that acted.
"""

from torch import Tensor


def reparameterised_entropy(log_prob: Tensor) -> Tensor:
    """`-log_prob` of a sample that was drawn as a differentiable function of the parameters.

    grad H = -E_eps[d/dtheta log pi_theta(a_theta(eps))]

    Args:
        log_prob: [...] log probability of a = f(theta, eps), with the gradient flowing through a
            too.
    Returns:
        [...] one-sample estimates; value and gradient are both unbiased.
    """
    return -log_prob


def score_function_entropy(log_prob: Tensor) -> Tensor:
    """An entropy estimate for samples that cannot be reparameterised.

    grad H = -E[log pi(a) grad log pi(a)]

    Args:
        log_prob: [...] log probability of samples from the *current* policy; no gradient in the
            samples.
    Returns:
        [...] one-sample estimates; the value is -log_prob, the gradient is unbiased.
    """
    value = -log_prob.detach()
    return value + value * (log_prob - log_prob.detach())
