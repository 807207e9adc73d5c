"""The maths as pure functions of tensors: use them without the rest of the library."""

from retain.ops.entropy import reparameterised_entropy, score_function_entropy
from retain.ops.losses import (
    PolicyLoss,
    RatioStatistics,
    ValueLoss,
    approx_kl,
    explained_variance,
    masked_mean,
    masked_std,
    normalise,
    policy_loss,
    q_loss,
    quantile_huber_loss,
    ratio_statistics,
    value_loss,
)
from retain.ops.returns import discounted_sum, gae, lambda_return, n_step_return, vtrace
from retain.ops.running_stats import RunningStats, normalise_with, running_stats, update_stats

__all__ = [
    "PolicyLoss",
    "RatioStatistics",
    "RunningStats",
    "ValueLoss",
    "approx_kl",
    "discounted_sum",
    "explained_variance",
    "gae",
    "lambda_return",
    "masked_mean",
    "masked_std",
    "n_step_return",
    "normalise",
    "normalise_with",
    "policy_loss",
    "q_loss",
    "quantile_huber_loss",
    "ratio_statistics",
    "reparameterised_entropy",
    "running_stats",
    "score_function_entropy",
    "update_stats",
    "value_loss",
    "vtrace",
]
