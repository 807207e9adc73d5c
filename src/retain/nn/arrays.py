"""Acts in NumPy: at these sizes a torch operation costs more than its arithmetic
(benchmarks/collecting.py).

What is learned from still comes from the policy's `forward`, which the collector runs over every
piece of a segment as soon as it is there: log-probabilities, values and carries are therefore
exactly those of training. Only the choice among actions depends on these arrays, and the collector
checks all of their scores against the forward's.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias, TypeGuard

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from retain.memory.arrays import ArrayStep, Floats
from retain.nn.actor_critic import ActorCritic
from retain.nn.distributions import Categorical, DiagonalGaussian, Distribution
from retain.nn.encoders import VectorEncoder
from retain.nn.heads import BoxHead, DiscreteHead
from retain.nn.normaliser import StatsModule
from retain.ops.running_stats import CLIP, EPS
from retain.types import Carry, tree_leaves

Layer: TypeAlias = tuple[Floats, Floats, Callable[..., Any] | None, Floats]
"""Weight `[in, out]`, bias, activation, and a place for the output."""

TOLERANCE = 1e-3
"""Largest difference between `scores` and the forward's, relative to the largest score, or to 1 if
that is larger. float32's rounding is far smaller, even after a recurrence of `PIECE` steps."""
PIECE = 32
"""Steps that a recurrence makes in NumPy before it goes on from the forward's carry."""

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh,
    "relu": lambda x, out: np.maximum(x, 0.0, out=out),
}


class ArrayActor:
    """The actor as arrays, until its parameters change.

    Args:
        policy: one that `fits`.
        memory: the acting torso's memory.
        dtype: the observations' dtype.
        rows: B, the number of environments that act at once.
    """

    def __init__(self, policy: ActorCritic, memory: ArrayStep, dtype: Any, rows: int) -> None:
        self.stats: tuple[NDArray[Any], NDArray[Any]] | None = None
        if policy.normaliser is not None:
            stats: StatsModule = policy.normaliser.entries["entry_0"]  # type: ignore[assignment]
            scale = torch.rsqrt(stats.var + EPS)
            self.stats = stats.mean.numpy().astype(dtype), scale.numpy().astype(dtype)
        head, trunks, torso = policy.head, policy.trunks, policy.torsos[policy.acting]
        self.config, self.coder, self.acting = policy.config, policy.coder, policy.acting
        self.memory, self.shortcut = memory, torso.shortcut
        activation, encoder = policy.config.activation, torso.encoder
        assert isinstance(encoder, VectorEncoder)
        assert isinstance(head, DiscreteHead | BoxHead)
        embedding: Any = encoder.mlp.layers if encoder.mlp is not None else []
        self.encoder = [_layer(one.weight.mT, one.bias, activation, rows) for one in embedding]
        self.layers = [
            _layer(weight[policy.acting], bias[policy.acting, 0], activation, rows)
            for weight, bias in trunks.each_layer()
        ]
        self.layers.append(_layer(head.linear.weight.mT, head.linear.bias, "none", rows))
        self.spread = array(head.log_std.exp()) if isinstance(head, BoxHead) else None

    @staticmethod
    def fits(policy: nn.Module) -> TypeGuard[ActorCritic]:
        """Whether a policy can act like this, if its memory can: exactly ours, on a CPU, on
        vectors, with a Categorical or a Gaussian."""
        if type(policy) is not ActorCritic or policy.value.weight.device.type != "cpu":
            return False
        encoder = policy.torsos[policy.acting].encoder
        return (
            type(encoder) is VectorEncoder
            and encoder.event_dims == 1
            and encoder.scale == 1.0
            and not policy.config.use_sde
            and policy.config.activation in ACTIVATIONS
            and type(policy.head) in (DiscreteHead, BoxHead)
        )

    @classmethod
    def of(cls, policy: nn.Module, space: gym.Space[Any], rows: int) -> Self | None:
        """The actor of a policy that `fits`, for `rows` environments; None for others, for vectors
        of integers, and for memories without arrays."""
        if not cls.fits(policy) or space.dtype not in (np.float32, np.float64):
            return None
        memory = policy.torsos[policy.acting].memory.array_step(rows)
        return None if memory is None else cls(policy, memory, space.dtype, rows)

    def draw(self, steps: int, rows: int, generator: Generator) -> Floats:
        """The noise `[steps, rows, A]` of a segment, as `act` wants it."""
        noise = torch.empty(steps, rows, self.layers[-1][0].shape[1])
        if self.spread is None:
            return array(noise.exponential_(generator=generator).log_())
        return array(noise.normal_(generator=generator)) * self.spread

    def load(self, carry: Carry) -> None:
        """Goes on from a policy's carry."""
        self.memory.load(tree_leaves(carry[self.acting]))

    def act(
        self,
        obs: NDArray[Any],
        reset: NDArray[np.bool_],
        previous_action: NDArray[Any],
        previous_reward: Floats,
        noise: Floats,
        scores: Floats,
    ) -> NDArray[Any]:
        """Policy actions `[B, ...]`.

        Args:
            obs: `[B, D]` raw observations.
            reset: `[B]` true at the first step of an episode.
            previous_action, previous_reward: `[B, ...]` policy actions and `[B]` rewards.
            noise: `[B, A]`, from `draw`.
            scores: `[B, A]`, set to logits or means.
        """
        x = obs
        if self.stats is not None:
            mean, scale = self.stats
            x = ((x - mean) * scale).clip(-CLIP, CLIP)
        x = _through(self.encoder, x.astype(np.float32, copy=False))
        previous = []
        if self.config.reads_action:
            encoded = self.coder.encode(torch.from_numpy(previous_action)).numpy()
            previous.append(np.where(reset[:, None], np.float32(0), encoded))
        if self.config.reads_reward:
            previous.append(np.where(reset, np.float32(0), previous_reward)[:, None])
        if previous:
            x = np.concatenate((x, *previous), 1)
        out = self.memory.step(x, reset)
        x = _through(self.layers, np.concatenate((out, x), 1) if self.shortcut else out)
        scores[:] = x
        chosen: NDArray[Any] = x + noise if self.spread is not None else (x - noise).argmax(-1)
        return chosen

    @staticmethod
    def agrees(scores: Floats, dist: Distribution) -> bool:
        """Whether the scores `[T, B, A]` that actions came from are those of the forward, up to
        rounding."""
        assert isinstance(dist, Categorical | DiagonalGaussian)
        theirs = dist.logits if isinstance(dist, Categorical) else dist.mean
        difference = (torch.from_numpy(scores) - theirs).abs().max()
        return not difference > TOLERANCE * theirs.abs().max().clamp(min=1.0)


def _layer(weight: Tensor, bias: Tensor, activation: str, rows: int) -> Layer:
    out = np.empty((rows, weight.shape[1]), np.float32)
    return array(weight), array(bias), ACTIVATIONS.get(activation), out


def _through(layers: Sequence[Layer], x: Floats) -> Floats:
    for weight, bias, activation, out in layers:
        np.matmul(x, weight, out)
        np.add(out, bias, out)
        if activation is not None:
            activation(out, out=out)
        x = out
    return x


def array(x: Tensor) -> Floats:
    """A view of a tensor."""
    return x.detach().numpy()
