"""Action distributions, written out: `torch.distributions` costs several times the arithmetic.

Parameters have any leading shape `[...]`; `log_prob`, `entropy` and `kl` sum over the action's own
dimensions and return `[...]`. Samples are drawn from an explicit generator.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from retain.nn.noise import Source, exponential, standard_normal, uniform
from retain.ops.entropy import reparameterised_entropy

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
SDE_EPS = 1e-6


class Distribution(ABC):
    """A distribution over actions."""

    @abstractmethod
    def sample(self, source: Source = None) -> Tensor:
        """One action for each leading index, without gradient."""

    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable action."""

    @abstractmethod
    def log_prob(self, action: Tensor) -> Tensor:
        """`[...]` log-probability (or density) of actions."""

    @abstractmethod
    def entropy(self, source: Source = None) -> Tensor:
        """`[...]` entropy in nats; the generator is used only where it must be estimated."""

    @abstractmethod
    def kl(self, other: Self) -> Tensor:
        """`[...]` KL(self || other)."""

    @classmethod
    @abstractmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Joins distributions over `[T_i, ...]` into one over `[sum T_i, ...]`."""


class Categorical(Distribution):
    """A choice among n.

    Args:
        logits: `[..., n]`
        mask: `[..., n]` bool, true = allowed; at least one in every row. Forbidden actions have
            probability 0 and get no gradient.
    """

    def __init__(self, logits: Tensor, mask: Tensor | None = None) -> None:
        self.logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
        self.mask = mask
        self._log_probs: Tensor | None = None

    @property
    def log_probs(self) -> Tensor:
        """`[..., n]`, -inf where forbidden."""
        if self._log_probs is None:
            self._log_probs = F.log_softmax(self.logits, dim=-1)
        return self._log_probs

    @property
    def finite_log_probs(self) -> Tensor:
        """`[..., n]`, 0 where forbidden, so that 0 * log 0 is 0 with gradient 0."""
        if self.mask is None:
            return self.log_probs
        return self.log_probs.masked_fill(~self.mask, 0.0)

    def sample(self, source: Source = None) -> Tensor:
        """`[...]` int64. Exponential races: argmin E_i / p_i has distribution p."""
        logits = self.logits.detach()
        race = exponential(logits, source).log_()
        return torch.sub(logits, race, out=race).argmax(-1)

    def mode(self) -> Tensor:
        """`[...]` int64."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """`[...]` log-probability of int64 actions `[...]`."""
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self, source: Source = None) -> Tensor:
        """`[...]` entropy in closed form."""
        return -(self.log_probs.exp() * self.finite_log_probs).sum(-1)

    def kl(self, other: Self) -> Tensor:
        """`[...]` divergence in closed form; both distributions must have the same mask."""
        difference = self.finite_log_probs - other.finite_log_probs
        return (self.log_probs.exp() * difference).sum(-1)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """See `Distribution.cat`."""
        joined = cls(torch.cat([part.logits for part in parts]))
        if parts[0].mask is not None:  # the logits are masked already
            joined.mask = torch.cat([part.mask for part in parts])  # type: ignore[misc]
        return joined


class MultiCategorical(Distribution):
    """K independent categoricals.

    Args:
        logits: `[..., sum(sizes)]`
        sizes: number of choices of each categorical.
        mask: `[..., sum(sizes)]` bool, true = allowed.
    """

    def __init__(self, logits: Tensor, sizes: Sequence[int], mask: Tensor | None = None) -> None:
        widths = list(sizes)
        masks = [None] * len(widths) if mask is None else torch.split(mask, widths, -1)
        parts = zip(torch.split(logits, widths, -1), masks, strict=True)
        self.parts = [Categorical(part, part_mask) for part, part_mask in parts]

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """See `Distribution.cat`."""
        joined = cls.__new__(cls)
        columns = zip(*(part.parts for part in parts), strict=True)
        joined.parts = [Categorical.cat(column) for column in columns]
        return joined

    def sample(self, source: Source = None) -> Tensor:
        """`[..., K]` int64."""
        return torch.stack([part.sample(source) for part in self.parts], -1)

    def mode(self) -> Tensor:
        """`[..., K]` int64."""
        return torch.stack([part.mode() for part in self.parts], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """`[...]` log-probability of int64 actions `[..., K]`."""
        pairs = zip(self.parts, action.unbind(-1), strict=True)
        return torch.stack([part.log_prob(one) for part, one in pairs]).sum(0)

    def entropy(self, source: Source = None) -> Tensor:
        """`[...]` entropy in closed form."""
        return torch.stack([part.entropy() for part in self.parts]).sum(0)

    def kl(self, other: Self) -> Tensor:
        """`[...]` divergence in closed form."""
        pairs = zip(self.parts, other.parts, strict=True)
        return torch.stack([part.kl(another) for part, another in pairs]).sum(0)


class Bernoulli(Distribution):
    """K independent bits.

    Args:
        logits: `[..., K]` log-odds of a 1.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self, source: Source = None) -> Tensor:
        """`[..., K]` int8."""
        probability = torch.sigmoid(self.logits.detach())
        chance = uniform(probability.shape, source, probability.device)
        return (chance < probability).to(torch.int8)

    def mode(self) -> Tensor:
        """`[..., K]` int8."""
        return (self.logits > 0).to(torch.int8)

    def log_prob(self, action: Tensor) -> Tensor:
        """`[...]` log-probability of bits `[..., K]` of any dtype."""
        return F.logsigmoid(torch.where(action.bool(), self.logits, -self.logits)).sum(-1)

    def entropy(self, source: Source = None) -> Tensor:
        """`[...]` entropy in closed form."""
        probability = torch.sigmoid(self.logits)
        return (F.softplus(self.logits) - probability * self.logits).sum(-1)

    def kl(self, other: Self) -> Tensor:
        """`[...]` divergence in closed form."""
        probability = torch.sigmoid(self.logits)
        log_partition = F.softplus(other.logits) - F.softplus(self.logits)
        return (probability * (self.logits - other.logits) + log_partition).sum(-1)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """See `Distribution.cat`."""
        return cls(torch.cat([part.logits for part in parts]))


class DiagonalGaussian(Distribution):
    """Independent normals.

    Args:
        mean: `[..., A]`
        log_std: `[..., A]` or broadcastable to it.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    def sample(self, source: Source = None) -> Tensor:
        """`[..., A]` float."""
        with torch.no_grad():
            return self.reparameterised(source)

    def reparameterised(self, source: Source) -> Tensor:
        """`[..., A]` a sample whose gradient reaches the parameters."""
        noise = standard_normal(self.mean, source)
        return torch.addcmul(self.mean, noise, self.log_std.exp())

    def mode(self) -> Tensor:
        """`[..., A]`, the mean."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """`[...]` log-density of actions `[..., A]`."""
        return -HALF_LOG_2PI * self.mean.shape[-1] - self._surprise(action).sum(-1)

    def _surprise(self, action: Tensor) -> Tensor:
        """`[..., A]` minus the log-density, without its constant."""
        z = (action - self.mean) * torch.exp(-self.log_std)
        return torch.addcmul(self.log_std, z, z, value=0.5)

    def entropy(self, source: Source = None) -> Tensor:
        """`[...]` entropy in closed form."""
        log_std = self.log_std
        if log_std.shape[-1:] != self.mean.shape[-1:]:  # one for all: it counts A times
            log_std = log_std.expand_as(self.mean)
        return (log_std + (0.5 + HALF_LOG_2PI)).sum(-1).expand(self.mean.shape[:-1])

    def kl(self, other: Self) -> Tensor:
        """`[...]` divergence in closed form."""
        variance_ratio = torch.exp(2 * (self.log_std - other.log_std))
        distance = ((self.mean - other.mean) * torch.exp(-other.log_std)).square()
        terms = 0.5 * (variance_ratio + distance - 1) + other.log_std - self.log_std
        return terms.sum(-1)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """See `Distribution.cat`; gSDE's features are dropped."""
        joined = cls.__new__(cls)
        joined.mean = torch.cat([part.mean for part in parts])
        shared = parts[0].log_std.dim() < parts[0].mean.dim()  # a parameter, the same at each step
        log_stds = [part.log_std for part in parts]
        joined.log_std = log_stds[0] if shared else torch.cat(log_stds)
        return joined


class SquashedGaussian(DiagonalGaussian):
    """The tanh of a diagonal Gaussian.

    The stored and scored action is u, *before* tanh, so log-probabilities are exact at any
    distance; `squash` gives the action in (-1, 1). Densities are those of tanh(u). `mode` is the
    Gaussian's; its tanh is the action's median, the usual deterministic choice.
    """

    @staticmethod
    def squash(action: Tensor) -> Tensor:
        """`[..., A]` actions in (-1, 1) from pre-tanh actions."""
        return torch.tanh(action)

    def log_prob(self, action: Tensor) -> Tensor:
        """`[...]` log-density of tanh(u) for u `[..., A]`.

        log(1 - tanh(u)^2) = -2 log cosh u = 2 log 2 - 2 log(e^u + e^-u), which stays finite.
        """
        log_cosh = torch.logaddexp(action, -action)  # + log 2
        constant = (HALF_LOG_2PI + 2 * math.log(2)) * self.mean.shape[-1]
        return torch.sub(2 * log_cosh, self._surprise(action)).sum(-1) - constant

    def entropy(self, source: Source = None) -> Tensor:
        """A one-sample estimate, since no closed form exists; reparameterised, so its gradient is
        unbiased."""
        return reparameterised_entropy(self.log_prob(self.reparameterised(source)))


class StateDependentGaussian(DiagonalGaussian):
    """gSDE: noise that is a function of the state (Raffin et al. 2021, arXiv:2005.05719).

    a = mean + latent @ E with E ~ N(0, exp(log_std)^2) fixed for several steps; over E, the action
    is normal with variance latent^2 @ exp(log_std)^2.

    Args:
        mean: `[..., A]`
        latent: `[..., F]` features; detach them if they should not learn from the noise.
        log_std: `[F, A]`
    """

    def __init__(self, mean: Tensor, latent: Tensor, log_std: Tensor) -> None:
        variance = latent.square() @ log_std.exp().square()
        super().__init__(mean, 0.5 * torch.log(variance + SDE_EPS))
        self.latent = latent

    def perturb(self, exploration: Tensor) -> Tensor:
        """`[..., A]` actions under the noise `[..., F, A]`, without gradient."""
        with torch.no_grad():
            return self.mean + (self.latent.unsqueeze(-2) @ exploration).squeeze(-2)


def draw_exploration(
    log_std: Tensor, batch_size: int, generator: Generator | None = None
) -> Tensor:
    """gSDE noise `[batch_size, F, A]` for `log_std` `[F, A]`, without gradient."""
    with torch.no_grad():
        noise = torch.empty((batch_size, *log_std.shape), device=log_std.device)
        return noise.normal_(generator=generator) * log_std.exp()
