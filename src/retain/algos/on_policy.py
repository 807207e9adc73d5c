"""The common part of every algorithm that learns from fresh segments: it collects a segment,
computes targets, cuts the segment into sequences at the stored carries, and makes passes over
shuffled minibatches of them with the same forward that acted. An algorithm defines the targets and
the loss.

*Who trains the memory.* There is one loss and one optimizer; they own every parameter, including
the memory's. Without memory a sequence is one step. With memory it is the whole segment, or a chunk
of it that begins with the carry that acting left there.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar

import gymnasium as gym
import torch
from torch import Tensor

from retain.algos.compiled import CompiledStep
from retain.algos.contract import Update
from retain.algos.diagnostics import DISAGREE, Diagnostics, read, where_largest
from retain.algos.optim import Adam, SafeStep
from retain.algos.schedules import check_schedule, scheduled
from retain.data.collector import Collector
from retain.data.rollout import Rollout, Sequences
from retain.errors import NonFiniteError, UsageError, check_range
from retain.nn.noise import Source
from retain.nn.normaliser import RewardNormaliser
from retain.nn.policy import SegmentPolicy
from retain.nn.torso import NetworkConfig
from retain.ops import explained_variance
from retain.ranges import Log, NearOne
from retain.settings import setting
from retain.types import (
    Carry,
    Obs,
    restore_generator,
    tree_leaves,
    tree_map,
    under_prefix,
    with_prefix,
)


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(NetworkConfig):
    """The settings that the on-policy algorithms share."""

    learning_rate: float = setting(2.5e-4, search=Log(5e-5, 5e-3))
    """Adam's step size."""
    lr_schedule: str = "linear"
    """Schedule of the step size: constant, linear or cosine to 0 at the run's end, or
    module:name."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    num_steps: int = 128
    """Steps of each environment in a segment; more steps mean less bias but fewer updates."""
    epochs: int = 1
    """Passes over a segment."""
    batch_size: int | None = None
    """Steps in a minibatch, a multiple of the sequence length. None = the whole segment."""
    sequence_length: int | None = setting(None, needs="memory")
    """With memory: steps that a gradient reaches back; divides num_steps. None = the whole
    segment."""
    refresh_carries: bool = setting(False, needs="sequence_length")
    """With sequence_length: recompute the stored carries between epochs."""
    gamma: float = setting(0.99, search=NearOne(0.9, 0.999))
    """Discount factor per step."""
    max_grad_norm: float | None = 0.5
    """Largest global gradient norm."""
    normalise_reward: bool = setting(False, fixed="the saved statistics go with it")
    """Divide rewards by the running standard deviation of the return."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        check_schedule(self.lr_schedule)
        check_range(self, "num_steps", "epochs", "batch_size", "sequence_length", low=1)
        check_range(self, "gamma", low=0, high=1)
        check_range(self, "learning_rate", low=0)
        check_range(self, "max_grad_norm", "adam_eps", low=0, above=True)
        if self.refresh_carries and self.epochs == 1:
            raise UsageError("refresh_carries would do nothing: epochs is 1")
        if self.num_steps % self.sequence:
            raise UsageError(
                f"sequence_length {self.sequence} does not divide num_steps {self.num_steps}"
                f"; nearest that does: {_nearest_divisor(self.num_steps, self.sequence)}"
            )
        if self.batch_size is not None and self.batch_size % self.sequence:
            nearest = max(1, round(self.batch_size / self.sequence)) * self.sequence
            raise UsageError(
                f"batch_size {self.batch_size} is not a multiple of the sequence length "
                f"{self.sequence}; nearest that is: {nearest}"
            )

    @property
    def sequence(self) -> int:
        """Steps of one training sequence."""
        if not self.remembers:
            return 1
        return self.sequence_length or self.num_steps

    def small(self) -> dict[str, Any]:
        """Settings for an agent of the same kind that trains only briefly, for the doctor."""
        return {
            "num_envs": 4, "num_steps": 32, "batch_size": self.batch_size and 64,
            "epochs": min(self.epochs, 2), "sequence_length": self.sequence_length and 16,
        } | ({"sequence_length": 16} if self.remembers else {})  # fmt: skip

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return {
            "num_envs": 16, "num_steps": 16, "batch_size": 64, "epochs": 4,
            "sequence_length": None, "learning_rate": 5e-3, "lr_schedule": "linear",
            "normalise_reward": False, "max_grad_norm": 0.5,
        }  # fmt: skip

    def short_segments(self) -> dict[str, Any]:
        """Settings for the doctor with cues before the segment and traces that reach its end."""
        return {"num_steps": 4, "num_envs": 64}


def _nearest_divisor(total: int, wanted: int) -> int:
    return min((d for d in range(1, total + 1) if total % d == 0), key=lambda d: abs(d - wanted))


@dataclass
class Loss:
    """The loss of a minibatch."""

    total: Tensor
    """Scalar to minimise."""
    terms: dict[str, Tensor]
    """The loss's terms and further metrics: scalars by name."""
    gap: Tensor
    """`[L, N]` distance between training's forward and what acting computed, without gradient."""


@dataclass
class Minibatch:
    """What a gradient step leaves for the metrics, all of it still on the device."""

    terms: dict[str, Tensor]
    total: Tensor
    gap: Tensor
    """The gaps, flat."""
    norms: Tensor
    """`[P]` norm of each parameter's gradient, before clipping."""
    norm: Tensor
    """Norm of the whole gradient, before clipping."""
    stop: Tensor | None
    """Bool scalar, true if the loss ended the update and this step was left out."""


@dataclass
class Pass:
    """One pass over a segment's sequences, and what its gradient steps left."""

    sequences: Sequences
    size: int
    """Sequences in a minibatch."""
    order: Tensor | None
    done: list[Minibatch] = field(default_factory=list)
    stopped: bool = False
    """Whether the last minibatch ended the update without a step."""

    def batch(self, place: int) -> Sequences:
        """One minibatch again."""
        return next(islice(self.sequences.minibatches(self.size, self.order), place, None))


BROKEN = "broken"
"""Key of a step's flag in the metrics until they are read."""


class OnPolicyUpdate(Update[Collector]):
    """Turns segments into gradient steps. Subclasses define the targets and the loss.

    Args:
        policy: the policy that `networks` made.
        seed: seed of the minibatch order and of anything that the loss samples.
        num_envs: B, for the reward normaliser's running returns.
    """

    GAP: ClassVar[str] = "log_ratio"
    """The name of `Loss.gap` in the metrics; the gap is 0 before a segment's first step."""
    checks: ClassVar[tuple[str, ...]] = ("parity", "segment", "carried on", "segment's bootstrap")
    probes = ("last action", "earlier segment")
    config: OnPolicyConfig

    def __init__(
        self, config: OnPolicyConfig, policy: SegmentPolicy, *, seed: int, num_envs: int
    ) -> None:
        self.config, self.policy = config, policy
        device = next(policy.parameters()).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.source: Source = self.generator
        """The origin of the noise that a loss samples with."""
        self.optimizer = Adam(policy.parameters(), lr=config.learning_rate, eps=config.adam_eps)
        self.step = SafeStep(policy, self.optimizer, config.max_grad_norm, kernels=config.kernels)
        self.reward_normaliser = (
            RewardNormaliser(num_envs, config.gamma) if config.normalise_reward else None
        )
        self.gradient_steps = 0
        self.diagnostics = Diagnostics(policy)
        self._take: Callable[..., Minibatch] = self.gradient_step
        if config.compile:
            self._take = CompiledStep(self, policy, self.gradient_step, size=len)

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The single optimizer."""
        return {"policy": self.optimizer}

    def outputs(self, obs: Obs, reset: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        """`[T, B, 2]` the value, and the log-probability of one fixed action."""
        carry = self.policy.initial_carry(reset.shape[1])
        dist, value, _ = self.policy(obs, carry, reset, action, reward)
        return torch.stack((value, dist.log_prob(torch.zeros_like(action))), -1)

    def expected(
        self, obs: Obs, carry: Carry, reset: Tensor, action: Tensor, reward: Tensor, chosen: Tensor
    ) -> Tensor:
        """`[1, B]` the critic's value."""
        value: Tensor = self.policy(obs, carry, reset, action, reward)[1]
        return value

    @classmethod
    @abstractmethod
    def networks(
        cls, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Any
    ) -> SegmentPolicy:
        """The networks this algorithm trains.

        Raises:
            UsageError: the algorithm cannot learn such actions.
        """

    @abstractmethod
    def targets(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantage and value target of every step of a segment, `[T, B]` each."""

    @abstractmethod
    def loss(self, batch: Sequences, progress: float) -> Loss:
        """The loss on a minibatch of sequences."""

    def enough(self, loss: Loss) -> Tensor | None:
        """Bool scalar, whether the update ends now, before this minibatch's step; None if a loss
        never ends it."""
        return None

    def statistics(self, gap: Tensor, progress: float) -> Mapping[str, float | Tensor]:
        """Metrics from the gaps of every trained step, flat; numbers or scalars."""
        return {f"max_{self.GAP}": gap.abs().max()}

    def scale(self, progress: float) -> float:
        """How much acting explores at `progress` in [0, 1] of the run; 1 samples the policy."""
        return 1.0

    def explore(self, progress: float) -> dict[str, float]:
        """Sets the next segment's exploration to `scale`, and returns metrics about it."""
        return {}

    def turn(self, collector: Collector, progress: Callable[[], float]) -> dict[str, float]:
        """Collects a segment and updates on it.

        Args:
            progress: gives the finished share of the run, in [0, 1].
        """
        share = progress()
        exploration = self.explore(share)
        rollout = collector.collect(self.config.num_steps)
        return self.update(rollout, share) | exploration

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """One update on a segment.

        Args:
            progress: finished share of the run, in [0, 1], for the schedules.
        Returns:
            Metrics by name (docs/metrics.md): loss terms are means over the minibatches, gaps are
            means over every trained step.
        Raises:
            NonFiniteError: a loss or gradient was not finite; the parameters are unchanged, and the
                error carries the minibatch as `batch`.
        """
        config = self.config
        rate = scheduled(config.learning_rate, config.lr_schedule, progress)
        self.optimizer.param_groups[0]["lr"] = rate
        if self.reward_normaliser is not None:
            ended = rollout.terminated | rollout.truncated
            rollout = replace(rollout, reward=self.reward_normaliser(rollout.reward, ended))
        advantage, target = self.targets(rollout)
        obs = self.policy.prepare(rollout.obs)
        sequences = self.cut(rollout, obs, advantage, target)
        passes: list[Pass] = []
        for epoch in range(config.epochs):
            if epoch and config.refresh_carries:
                sequences = self.cut(self._refreshed(rollout, obs), obs, advantage, target)
            size = self.size(sequences)
            passes.append(Pass(sequences, size, sequences.order(size, self.generator)))
            self._train(passes[-1], progress, rate)
            if passes[-1].stopped:
                break
        if self.policy.normaliser is not None:
            # Only now: acting and training on this segment saw the same statistics.
            self.policy.normaliser.update(rollout.obs)
        row = read(self._metrics(passes, progress) | self._look(rollout, obs, target, passes))
        if row.pop(BROKEN):
            raise self._failure(passes, progress)
        if row[f"first_{self.GAP}"] > DISAGREE:
            self.diagnostics.disagreement = where_largest(passes[0].done[0].gap, passes[0].batch(0))
        return row | {"learning_rate": rate, "gradient_steps": float(self.gradient_steps)}

    def size(self, sequences: Sequences) -> int:
        """Sequences in a minibatch."""
        if self.config.batch_size is None:
            return len(sequences)
        return max(1, int(self.config.batch_size) // int(self.config.sequence))

    def cut(self, rollout: Rollout, obs: Obs, advantage: Tensor, target: Tensor) -> Sequences:
        """The segment as sequences, with everything that the loss reads."""
        return rollout.sequences(obs=obs, advantage=advantage, target=target)

    def gradient_step(self, batch: Sequences, progress: float, rate: float | Tensor) -> Minibatch:
        """The loss of a minibatch, its gradient, and the optimizer's step. Reads and writes tensors
        on the device only, and compiles as one graph."""
        loss = self.loss(batch, progress)
        stop = self.enough(loss)
        norms, norm = self.step(loss.total, rate, skip=stop)
        terms = {name: term.detach() for name, term in loss.terms.items()}
        return Minibatch(terms, loss.total.detach(), loss.gap, norms, norm, stop)

    def _train(self, one: Pass, progress: float, rate: float) -> None:
        """Takes a gradient step on every minibatch of a pass, or up to the one that ends it."""
        for batch in one.sequences.minibatches(one.size, one.order):
            minibatch = self._take(batch, progress, rate)
            one.done.append(minibatch)
            if minibatch.stop is not None and bool(minibatch.stop):
                one.stopped = True
                return
            self.gradient_steps += 1

    def _metrics(self, passes: list[Pass], progress: float) -> dict[str, float | Tensor]:
        """The terms' means over the minibatches, and the statistics of all their gaps."""
        done = [minibatch for one in passes for minibatch in one.done]
        names = list(done[0].terms)
        values = torch.stack([minibatch.terms[name] for minibatch in done for name in names])
        mean = values.view(len(done), len(names)).mean(0).unbind()
        stepped = done[: len(done) - passes[-1].stopped]
        norm = torch.stack([m.norm for m in stepped]).mean() if stepped else 0.0
        return {
            **dict(zip(names, mean, strict=True)),
            **self.statistics(torch.cat([one.gap.flatten() for one in done]), progress),
            f"first_{self.GAP}": done[0].gap.abs().max(),
            "grad_norm": norm,
            BROKEN: self.step.broken,
        }

    def _look(
        self, rollout: Rollout, obs: Obs, target: Tensor, passes: list[Pass]
    ) -> dict[str, float | Tensor]:
        """The diagnostics of the values and the memory."""
        norms = passes[-1].done[-1].norms
        found = self.diagnostics.look(rollout, obs, target, self.step.parameters, norms)
        fit = explained_variance(value=rollout.value, target=target)
        return found | {"explained_variance": fit}

    def _failure(self, passes: list[Pass], progress: float) -> NonFiniteError:
        """Names what was not finite first, and takes back the count of the steps skipped since."""
        self.step.broken.zero_()
        done = [(one, place) for one in passes for place in range(len(one.done))]
        whole = torch.stack([one.done[i].norm + one.done[i].total for one, i in done])
        first = int(whole.isfinite().logical_not().nonzero()[0])
        self.gradient_steps -= len(done) - first
        one, place = done[first]
        batch = one.batch(place)
        loss = self.loss(batch, progress)
        name = self.step.diagnosis(loss.total, loss.terms)
        error = NonFiniteError(name or "a loss or its gradient was not finite")
        error.batch = _tensors(batch)
        return error

    @torch.no_grad()
    def _refreshed(self, rollout: Rollout, obs: Obs) -> Rollout:
        """The rollout with the carries that the current parameters would have left."""
        carry: Carry = rollout.carries[0]
        carries = []
        length = rollout.steps // len(rollout.carries)
        for first in range(0, rollout.steps, length):
            carries.append(carry)

            def part(x: Tensor, first: int = first) -> Tensor:
                return x[first : first + length]

            previous = [
                None if x is None else part(x)
                for x in (rollout.previous_action, rollout.previous_reward)
            ]
            _, _, carry = self.policy(tree_map(part, obs), carry, part(rollout.reset), *previous)
        return replace(rollout, carries=tuple(carries))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Optimizer, generator and reward statistics: tensors, and JSON for the rest."""
        tensors = {"generator": self.generator.get_state()}
        tensors |= with_prefix("optimizer.", self.optimizer.tensors())
        if self.reward_normaliser is not None:
            tensors |= with_prefix("reward.", self.reward_normaliser.state_dict())
        facts = {"gradient_steps": self.gradient_steps, "diagnostics": self.diagnostics.state()}
        return tensors, facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        restore_generator(self.generator, tensors["generator"])
        self.optimizer.restore(under_prefix("optimizer.", tensors))
        if self.reward_normaliser is not None:
            self.reward_normaliser.load_state_dict(under_prefix("reward.", tensors))
        self.gradient_steps = facts["gradient_steps"]
        self.diagnostics.restore(facts["diagnostics"])


def _tensors(batch: Sequences) -> dict[str, Tensor]:
    """A minibatch as named tensors, to save when something in it is not finite."""
    named: dict[str, Tensor] = {}
    for name in ("action", "log_prob", "value", "advantage", "target", "reset"):
        named[name] = getattr(batch, name)
    for name, tree in (("obs", batch.obs), ("carry", batch.carry)):
        named |= {f"{name}.{i}": leaf for i, leaf in enumerate(tree_leaves(tree))}
    for name in ("previous_action", "previous_reward"):
        if getattr(batch, name) is not None:
            named[name] = getattr(batch, name)
    return named
