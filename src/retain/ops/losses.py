"""Losses and their statistics. Masked steps affect nothing, whatever they hold."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of `x` where `mask` (same shape, bool) is true; 0 if it is true nowhere."""
    if mask is None:
        return x.mean()
    return x.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_std(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Standard deviation (n - 1 below) of `x` where `mask` is true; 0 for fewer than two."""
    if mask is None:
        return x.std() if x.numel() > 1 else torch.zeros((), dtype=x.dtype, device=x.device)
    return _spread(_centred(x, mask), mask)


def _centred(x: Tensor, mask: Tensor) -> Tensor:
    """`x` minus its masked mean, 0 where masked.

    The mean is subtracted twice: the first mean is rounded, and dividing by the spread of that
    rounding would turn equal advantages into advantages near 1.
    """
    for _ in range(2):
        x = (x - masked_mean(x, mask)).masked_fill(~mask, 0.0)
    return x


def _spread(centred: Tensor, mask: Tensor) -> Tensor:
    return (centred.square().sum() / (mask.sum() - 1).clamp(min=1)).sqrt()


def normalise(
    x: Tensor,
    mask: Tensor | None = None,
    eps: float = 1e-8,
    *,
    moments: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """`(x - mean) / (std + eps)` over the unmasked steps; masked ones become 0.

    A single step has no spread to divide by, so it is returned unchanged.

    Args:
        moments: mean and standard deviation to use, where `x` is a part of something larger.
    """
    if moments is not None:
        mean, std = moments
        scaled = (x - mean) / (std + eps)
        return scaled if mask is None else scaled.masked_fill(~mask, 0.0)
    if mask is None:
        if x.numel() < 2:
            return x
        std, mean = torch.std_mean(x)
        return (x - mean) / (std + eps)
    centred = _centred(x, mask)
    scaled = centred / (_spread(centred, mask) + eps)
    return torch.where(mask.sum() > 1, scaled, x).masked_fill(~mask, 0.0)


def approx_kl(*, log_prob: Tensor, old_log_prob: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL(old || new) from old samples: mean of (ratio - 1) - log ratio, never negative.

    The estimator k3 of Schulman 2020 (http://joschu.net/blog/kl-approx.html). Scalar.
    """
    return _k3((log_prob - old_log_prob).detach(), mask)


def _k3(log_ratio: Tensor, mask: Tensor | None) -> Tensor:
    # expm1, not ratio - 1: the KL of a small step would drown in its rounding.
    return masked_mean(torch.expm1(log_ratio) - log_ratio, mask)


def explained_variance(*, value: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """1 - Var(target - value) / Var(target): 1 perfect, 0 no better than a constant, < 0 worse.

    Scalar; NaN if the targets do not vary, since there is no variance to explain.
    """
    if mask is not None:
        value, target = value[mask], target[mask]
    unexplained = masked_std(target - value).square()
    # Shifted by one of them, equal targets are exact zeros; their own variance would be rounding.
    target = target.flatten()
    variance = masked_std(target - target[:1]).square()
    ratio = 1 - unexplained / variance
    return torch.where(variance > 0, ratio, torch.full_like(ratio, float("nan")))


class RatioStatistics(NamedTuple):
    """Scalars that say how far the policy has moved from the one that acted."""

    clip_fraction: Tensor
    """Share of steps whose ratio left the clip range."""
    approx_kl: Tensor
    max_log_ratio: Tensor
    """Largest |log ratio|; before any gradient step, the disagreement of acting and training."""


def ratio_statistics(
    *, log_ratio: Tensor, clip: float | tuple[float, float], mask: Tensor | None = None
) -> RatioStatistics:
    """Clip fraction, KL (k3) and largest log ratio of `[...]` log ratios, without gradient."""
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    with torch.no_grad():
        if mask is not None:
            log_ratio = log_ratio.masked_fill(~mask, 0.0)
        ratio = log_ratio.exp()
        outside = (ratio < 1 - low) | (ratio > 1 + high)
        furthest = torch.linalg.vector_norm(log_ratio, float("inf"))
        fraction = masked_mean(outside.to(ratio.dtype), mask)
        return RatioStatistics(fraction, _k3(log_ratio, mask), furthest)


@dataclass(frozen=True)
class PolicyLoss:
    """The loss, and the log ratios from which its statistics are computed on demand."""

    loss: Tensor
    """Scalar."""
    log_ratio: Tensor
    """[...] without gradient."""
    clip: tuple[float, float]
    mask: Tensor | None

    @cached_property
    def statistics(self) -> RatioStatistics:
        """Clip fraction, KL and largest log ratio."""
        return ratio_statistics(log_ratio=self.log_ratio, clip=self.clip, mask=self.mask)

    @property
    def clip_fraction(self) -> Tensor:
        """Share of steps whose ratio left the clip range."""
        return self.statistics.clip_fraction

    @property
    def approx_kl(self) -> Tensor:
        """KL(old || new) from the old samples."""
        return self.statistics.approx_kl

    @property
    def max_log_ratio(self) -> Tensor:
        """Largest |log ratio|."""
        return self.statistics.max_log_ratio


class _ClippedSurrogate(torch.autograd.Function):
    """min(r A, clip(r) A) of a log ratio, with derivative r A where the first is smaller."""

    @staticmethod
    def forward(ctx: Any, log_ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
        ratio = log_ratio.exp()
        gain = ratio * advantage
        clipped = ratio.clamp_(1 - low, 1 + high).mul_(advantage)
        ctx.save_for_backward(gain, gain <= clipped)
        return torch.minimum(gain, clipped)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        gain, counts = ctx.saved_tensors
        return gradient * gain * counts, None, None, None


def policy_loss(
    *,
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip: float | tuple[float, float],
    mask: Tensor | None = None,
) -> PolicyLoss:
    """PPO's clipped surrogate, to minimise.

    L = -mean min(ratio A, clip(ratio, 1 - low, 1 + high) A)   (Schulman et al. 2017, eq. 7)

    Args:
        log_prob: [...] log probability of the stored actions under the current policy, with
            gradient.
        old_log_prob: [...] log probability when acting.
        advantage: [...]
        clip: c for [1 - c, 1 + c], or (low, high) for [1 - low, 1 + high].
        mask: [...] bool, true for steps that count.
    """
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    log_ratio = log_prob - old_log_prob
    if mask is not None:
        log_ratio = log_ratio.masked_fill(~mask, 0.0)
        advantage = advantage.masked_fill(~mask, 0.0)
    gain: Tensor = _ClippedSurrogate.apply(log_ratio, advantage, low, high)  # type: ignore[no-untyped-call]
    return PolicyLoss(-masked_mean(gain, mask), log_ratio.detach(), (low, high), mask)


class ValueLoss(NamedTuple):
    """Scalars; only `loss` carries a gradient."""

    loss: Tensor
    clip_fraction: Tensor
    """Share of steps whose value left the clip range; 0 without clipping."""


def value_loss(
    *,
    value: Tensor,
    target: Tensor,
    old_value: Tensor | None = None,
    value_clip: float | None = None,
    huber: float | None = None,
    mask: Tensor | None = None,
) -> ValueLoss:
    """Half the mean squared error of the value, optionally clipped around the old value.

    L = mean max(l(V - R), l(V_old + clip(V - V_old, -c, c) - R)),   l(e) = e^2 / 2 or Huber's

    Half the square, as in CleanRL; Stable-Baselines3 takes the whole square, so its `vf_coef` of
    0.5 is a coefficient of 1 here. The clip has its own threshold in units of return, and makes
    sense only for data that this value function collected.

    Args:
        value: [...] the current value.
        target: [...]
        old_value: [...] the value when acting; required by `value_clip`.
        value_clip: c, or None for no clipping.
        huber: threshold beyond which the loss grows linearly, or None for the square.
        mask: [...] bool, true for steps that count.
    Raises:
        ValueError: `value_clip` or `huber` is not positive (a clip of 0 would silently stop the
            value from learning), or `old_value` is missing.
    """
    for name, threshold in (("value_clip", value_clip), ("huber", huber)):
        if threshold is not None and not threshold > 0:
            raise ValueError(f"{name} is {threshold} (expected more than 0, or None for off)")

    def error(prediction: Tensor) -> Tensor:
        if huber is not None:
            return F.huber_loss(prediction, target, reduction="none", delta=huber)
        return 0.5 * (prediction - target).square()

    if mask is not None:
        value, target = value.masked_fill(~mask, 0.0), target.masked_fill(~mask, 0.0)
    if value_clip is None:
        if mask is None and huber is None:
            loss = 0.5 * F.mse_loss(value, target)
        else:
            loss = masked_mean(error(value), mask)
        return ValueLoss(loss, torch.zeros_like(loss))
    if old_value is None:
        raise ValueError("value_clip needs old_value, the values when acting")
    if mask is not None:
        old_value = old_value.masked_fill(~mask, 0.0)
    moved = value - old_value
    near = old_value + moved.clamp(-value_clip, value_clip)
    loss = masked_mean(torch.maximum(error(value), error(near)), mask)
    with torch.no_grad():
        fraction = masked_mean((moved.abs() > value_clip).to(value.dtype), mask)
    return ValueLoss(loss, fraction)


def q_loss(
    *,
    value: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    huber: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Half the mean squared error of K action values, summed over them.

    L = sum_k mean w (Q_k - y)^2 / 2   (Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1)

    Args:
        value: [K, ...] the critics' values.
        target: [...] y, without gradient.
        weight: [...] or broadcastable, importance weights of prioritized sampling.
        huber: threshold beyond which the loss grows linearly, or None for the square.
        mask: [...] bool, true for steps that count.
    Returns:
        Scalar.
    """
    if mask is not None:
        value, target = value.masked_fill(~mask, 0.0), target.masked_fill(~mask, 0.0)
    if huber is not None:
        error = F.huber_loss(value, target.expand_as(value), reduction="none", delta=huber)
    else:
        error = 0.5 * (value - target).square()
    if weight is not None:
        error = error * weight
    if mask is None:
        return error.mean() * len(value)
    return masked_mean(error, mask.expand_as(error)) * len(value)


def quantile_huber_loss(
    *,
    value: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    huber: float | None = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Quantile regression of K critics' return distributions, summed over them.

    L = sum_k mean w sum_i mean_j |tau_i - 1[u_ij < 0]| l(u_ij),   u_ij = y_j - theta_ki

    (Dabney et al. 2017, arXiv:1710.10044, eq. 10) with tau_i = (i + 1/2) / M for i from 0, and
    l(u) = |u|, or Huber's loss divided by its threshold, which tends to |u| as that tends to 0.

    Args:
        value: [K, ..., M] theta, the critics' quantiles.
        target: [..., J] y, a sample of the return, without gradient.
        weight: [...] or broadcastable, importance weights of prioritized sampling.
        huber: threshold beyond which the loss grows linearly, or None for |u| throughout.
        mask: [...] bool, true for steps that count.
    Returns:
        Scalar.
    """
    if mask is not None:
        value = value.masked_fill(~mask.unsqueeze(-1), 0.0)
        target = target.masked_fill(~mask.unsqueeze(-1), 0.0)
    M = value.shape[-1]
    tau = (torch.arange(M, dtype=value.dtype, device=value.device) + 0.5) / M
    error = target.unsqueeze(-2) - value.unsqueeze(-1)  # [K, ..., M, J]
    size = error.abs()
    if huber is not None:
        size = torch.where(size <= huber, 0.5 * error.square() / huber, size - 0.5 * huber)
    tilt = (tau.unsqueeze(-1) - (error.detach() < 0).to(value.dtype)).abs()
    loss = (tilt * size).mean(-1).sum(-1)  # [K, ...]
    if weight is not None:
        loss = loss * weight
    if mask is None:
        return loss.mean() * len(value)
    return masked_mean(loss, mask.expand_as(loss)) * len(value)
