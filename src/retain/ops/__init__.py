"""The maths as pure functions of tensors, usable without the rest of the library."""

from retain.ops.attention import banded_attention
from retain.ops.convolution import causal_convolution
from retain.ops.delta import gated_delta
from retain.ops.entropy import reparameterised_entropy, score_function_entropy
from retain.ops.gated import gated_recurrence
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
from retain.ops.running_stats import (
    RunningStats,
    batch_stats,
    merge_stats,
    normalise_with,
    running_stats,
    update_stats,
)
from retain.ops.scan import linear_recurrence

__all__ = [
    "PolicyLoss",
    "RatioStatistics",
    "RunningStats",
    "ValueLoss",
    "approx_kl",
    "banded_attention",
    "batch_stats",
    "causal_convolution",
    "discounted_sum",
    "explained_variance",
    "gae",
    "gated_delta",
    "gated_recurrence",
    "lambda_return",
    "linear_recurrence",
    "masked_mean",
    "masked_std",
    "merge_stats",
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
