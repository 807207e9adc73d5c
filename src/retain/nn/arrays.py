"""Acts with a feed-forward actor in NumPy, whose calls cost a fifth of torch's at these sizes.

The arrays are views of the policy's own parameters. What is learned from still comes from the
policy's `forward`, which the collector runs once over a finished segment: log-probabilities and
values are therefore exactly those of training. Only the choice among actions depends on these
arrays, and the collector checks them against the forward in every segment.
"""

from collections.abc import Callable
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from retain.memory.base import NoMemory
from retain.nn.actor_critic import ActorCritic
from retain.nn.distributions import Categorical, DiagonalGaussian, Distribution
from retain.nn.encoders import VectorEncoder
from retain.nn.heads import BoxHead, DiscreteHead
from retain.nn.normaliser import StatsModule
from retain.ops.running_stats import CLIP, EPS

Floats = NDArray[np.float32]

TOLERANCE = 1e-3
"""Largest difference between `scores` and the forward's, relative to the largest score: float32's
rounding is a thousand times smaller."""

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh,
    "relu": lambda x, out: np.maximum(x, 0.0, out=out),
}


class ArrayActor:
    """The actor's layers as arrays, until the parameters change.

    Args:
        policy: one that `fits`.
        dtype: the observations' dtype.
        rows: B, the number of environments that act at once.
    """

    def __init__(self, policy: ActorCritic, dtype: Any, rows: int) -> None:
        self.stats: tuple[NDArray[Any], NDArray[Any]] | None = None
        if policy.normaliser is not None:
            stats: StatsModule = policy.normaliser.entries["entry_0"]  # type: ignore[assignment]
            scale = torch.rsqrt(stats.var + EPS)
            self.stats = stats.mean.numpy().astype(dtype), scale.numpy().astype(dtype)
        head, trunks = policy.head, policy.trunks
        self.layers: list[tuple[Floats, Floats, Any, Floats]] = []
        encoder = policy.torsos[0].encoder
        assert isinstance(encoder, VectorEncoder)
        for layer in encoder.mlp.layers if encoder.mlp is not None else []:
            assert isinstance(layer, nn.Linear)
            self._add(layer.weight.mT, layer.bias, policy.config.activation, rows)
        for number, activation in enumerate(trunks.activations):
            weight, bias = (getattr(trunks, f"{part}_{number}") for part in ("weight", "bias"))
            self._add(weight[policy.acting], bias[policy.acting, 0], activation, rows)
        assert isinstance(head, DiscreteHead | BoxHead)
        self._add(head.linear.weight.mT, head.linear.bias, "", rows)
        self.spread = array(head.log_std.exp()) if isinstance(head, BoxHead) else None

    def _add(self, weight: Tensor, bias: Tensor, activation: str, rows: int) -> None:
        out = np.empty((rows, weight.shape[1]), np.float32)
        self.layers.append((array(weight), array(bias), ACTIVATIONS.get(activation), out))

    @staticmethod
    def fits(policy: nn.Module) -> bool:
        """Whether a policy can act like this: exactly ours, on a CPU, on vectors, without memory or
        previous actions, with a Categorical or a Gaussian."""
        if type(policy) is not ActorCritic or policy.value.weight.device.type != "cpu":
            return False
        config, torso = policy.config, policy.torsos[0]
        return (
            type(torso.encoder) is VectorEncoder
            and torso.encoder.event_dims == 1
            and torso.encoder.scale == 1.0
            and type(torso.memory) is NoMemory
            and not (config.reads_action or config.reads_reward or config.use_sde)
            and config.activation in ACTIVATIONS
            and type(policy.head) in (DiscreteHead, BoxHead)
        )

    @classmethod
    def of(cls, policy: nn.Module, space: gym.Space[Any], rows: int) -> Self | None:
        """The actor of a policy that `fits`; None for others, and for vectors of integers."""
        if not cls.fits(policy) or space.dtype not in (np.float32, np.float64):
            return None
        return cls(policy, space.dtype, rows)  # type: ignore[arg-type]

    def draw(self, steps: int, rows: int, generator: Generator) -> Floats:
        """The noise `[steps, rows, A]` of a segment, as `act` wants it."""
        noise = torch.empty(steps, rows, self.layers[-1][0].shape[1])
        if self.spread is None:
            return array(noise.exponential_(generator=generator).log_())
        return array(noise.normal_(generator=generator)) * self.spread

    def act(self, obs: NDArray[Any], noise: Floats, scores: Floats) -> NDArray[Any]:
        """Policy actions `[B, ...]`.

        Args:
            obs: `[B, D]` raw observations.
            noise: `[B, A]`, from `draw`.
            scores: `[B, A]`, set to logits or means.
        """
        x = obs
        if self.stats is not None:
            mean, scale = self.stats
            x = ((x - mean) * scale).clip(-CLIP, CLIP)
        x = x.astype(np.float32, copy=False)
        for weight, bias, activation, out in self.layers:
            np.matmul(x, weight, out)
            np.add(out, bias, out)
            if activation is not None:
                activation(out, out=out)
            x = out
        scores[:] = x
        chosen: NDArray[Any] = x + noise if self.spread is not None else (x - noise).argmax(-1)
        return chosen

    @staticmethod
    def agrees(scores: Floats, dist: Distribution) -> bool:
        """Whether the scores that actions came from are those of the forward, up to rounding."""
        assert isinstance(dist, Categorical | DiagonalGaussian)
        theirs = dist.logits if isinstance(dist, Categorical) else dist.mean
        difference = (torch.from_numpy(scores) - theirs).abs().max()
        return not difference > TOLERANCE * theirs.abs().max().clamp(min=1.0)


def array(x: Tensor) -> Floats:
    """A view of a tensor."""
    return x.detach().numpy()
