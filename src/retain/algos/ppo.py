"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), with or without memory.

Read this file first. One update takes a segment of the timeline, estimates advantages, cuts the
segment into sequences at the stored carries, and trains on shuffled minibatches of sequences with
the same forward that acted. Without memory a sequence is one step; with memory it is the whole
segment, or a chunk of it. The one loss below owns every parameter, the memory's included.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from retain.algos.diagnostics import Diagnostics
from retain.algos.optim import Adam, SafeStep, Schedule, scheduled
from retain.data.rollout import Rollout, Sequences
from retain.errors import NonFiniteError, UsageError, check_range
from retain.nn.actor_critic import ActorCritic, ActorCriticConfig
from retain.nn.normaliser import RewardNormaliser
from retain.ops import (
    PolicyLoss,
    explained_variance,
    gae,
    normalise,
    policy_loss,
    ratio_statistics,
    value_loss,
)
from retain.settings import setting
from retain.types import Carry, Obs, tree_leaves, tree_map, under_prefix, with_prefix

TERMS = ("policy_loss", "value_loss", "entropy", "value_clip_fraction")
"""What a minibatch's loss is made of, and what it reports besides."""


@dataclass(frozen=True, kw_only=True)
class PPOConfig(ActorCriticConfig):
    """Everything PPO reads. Defaults are CleanRL's for vector observations."""

    learning_rate: float = 2.5e-4
    """Adam's step size."""
    lr_schedule: Schedule = "linear"
    """linear: the learning rate falls to 0 at the run's end."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    num_steps: int = 128
    """Steps of each environment in a segment. More: less bias, fewer updates."""
    epochs: int = 4
    """Passes over a segment."""
    batch_size: int = 256
    """Steps in a minibatch. With memory a multiple of the sequence length."""
    sequence_length: int | None = None
    """With memory: steps that a gradient reaches back; divides num_steps. None = all of it."""
    refresh_carries: bool = setting(False, needs="sequence_length")
    """With sequence_length: recompute the stored carries between epochs."""
    gamma: float = 0.99
    """Discount of a step."""
    gae_lambda: float = 0.95
    """Trace of the advantage estimate: 0 = one step, 1 = Monte Carlo."""
    normalise_advantage: bool = True
    """Advantages of a minibatch to mean 0 and standard deviation 1."""
    clip_range: float = 0.2
    """The probability ratio may leave [1 - c, 1 + c] unrewarded."""
    clip_range_high: float | None = None
    """Another bound upwards: [1 - clip_range, 1 + clip_range_high]."""
    clip_schedule: Schedule = "constant"
    """linear: the clip range falls to 0."""
    value_clip: float | None = None
    """How far a value may move from the collected one in an update, in units of return."""
    value_huber: float | None = None
    """Huber threshold of the value error instead of the plain square."""
    value_coef: float = 0.5
    """Weight of the value loss, half the mean square (Stable-Baselines3's is the whole: double)."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    entropy_schedule: Schedule = setting("constant", needs="entropy_coef")
    """linear: the entropy bonus falls to 0."""
    max_grad_norm: float | None = 0.5
    """Largest global gradient norm."""
    target_kl: float | None = None
    """End the update when a minibatch's approximate KL exceeds 1.5 times this."""
    normalise_reward: bool = False
    """Rewards divided by the running standard deviation of the return."""

    def __post_init__(self) -> None:
        """Refuses values that cannot mean anything."""
        super().__post_init__()
        check_range(self, "num_steps", "epochs", "batch_size", "sequence_length", low=1)
        check_range(self, "gamma", "gae_lambda", low=0, high=1)
        check_range(
            self, "clip_range", "clip_range_high", "value_clip", "value_huber", "max_grad_norm",
            "target_kl", "adam_eps", low=0, above=True,
        )  # fmt: skip
        check_range(self, "learning_rate", "value_coef", "entropy_coef", low=0)
        if self.sequence_length is not None and not self.remembers:
            raise UsageError(f"sequence_length needs a memory (memory is {self.memory!r})")
        if self.num_steps % self.sequence:
            raise UsageError(
                f"sequence_length {self.sequence} does not divide num_steps {self.num_steps}"
                f"; nearest that does: {_nearest_divisor(self.num_steps, self.sequence)}"
            )
        if self.batch_size % self.sequence:
            nearest = max(1, round(self.batch_size / self.sequence)) * self.sequence
            raise UsageError(
                f"batch_size {self.batch_size} is no multiple of the sequence length "
                f"{self.sequence}; nearest that is: {nearest}"
            )

    @property
    def sequence(self) -> int:
        """Steps of one training sequence."""
        if not self.remembers:
            return 1
        return self.sequence_length or self.num_steps


def _nearest_divisor(total: int, wanted: int) -> int:
    return min((d for d in range(1, total + 1) if total % d == 0), key=lambda d: abs(d - wanted))


@dataclass
class Minibatch:
    """What a gradient step leaves for the metrics."""

    terms: list[Tensor]
    log_ratio: Tensor
    """Flat."""
    grad_norm: float | None = None


class PPOUpdate:
    """Turns segments into gradient steps.

    Args:
        seed: of the minibatch order and of sampled entropies.
        num_envs: B, for the reward normaliser's running returns.
    """

    def __init__(self, config: PPOConfig, policy: ActorCritic, *, seed: int, num_envs: int) -> None:
        self.config, self.policy = config, policy
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = Adam(policy.parameters(), lr=config.learning_rate, eps=config.adam_eps)
        self.step = SafeStep(policy, self.optimizer, config.max_grad_norm)
        self.reward_normaliser = (
            RewardNormaliser(num_envs, config.gamma) if config.normalise_reward else None
        )
        self.gradient_steps = 0
        self.diagnostics = Diagnostics(policy)

    def update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        """One update on a segment.

        Args:
            progress: share of the run that is over, in [0, 1], for the schedules.
        Returns:
            Metrics by name (docs/metrics.md): the losses' are means over the minibatches, the
            probability ratio's are over every step that was trained on.
        Raises:
            NonFiniteError: a loss or gradient was not finite; the parameters are as they were,
                and the minibatch travels on the error as `batch`.
        """
        config = self.config
        learning_rate = scheduled(config.learning_rate, config.lr_schedule, progress)
        self.optimizer.param_groups[0]["lr"] = learning_rate
        reward = rollout.reward
        if self.reward_normaliser is not None:
            reward = self.reward_normaliser(reward, rollout.terminated | rollout.truncated)
        advantage, target = gae(
            reward=reward,
            value=rollout.value,
            next_value=rollout.next_value,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            gamma=config.gamma,
            lam=config.gae_lambda,
        )
        obs = self.policy.prepare(rollout.obs)
        sequences = rollout.sequences(obs=obs, advantage=advantage, target=target)
        done: list[Minibatch] = []
        for epoch in range(config.epochs):
            if epoch and config.refresh_carries:
                rollout = self._refreshed(rollout, obs)
                sequences = rollout.sequences(obs=obs, advantage=advantage, target=target)
            if not self._epoch(sequences, progress, done):
                break
        if self.policy.normaliser is not None:
            # Only now: acting and training on this segment saw the same statistics.
            self.policy.normaliser.update(rollout.obs)
        metrics = self._metrics(done, progress) | self.diagnostics.look(rollout, obs, target)
        return metrics | {
            "explained_variance": explained_variance(value=rollout.value, target=target).item(),
            "learning_rate": learning_rate,
            "gradient_steps": float(self.gradient_steps),
        }

    def _epoch(self, sequences: Sequences, progress: float, done: list[Minibatch]) -> bool:
        """Trains on every sequence once; false if the KL bound ended the update."""
        config = self.config
        size = max(1, config.batch_size // config.sequence)
        for batch in sequences.minibatches(size, self.generator):
            loss, terms, policy = self.loss(batch, progress)
            minibatch = Minibatch(
                [terms[name].detach() for name in TERMS], policy.log_ratio.flatten()
            )
            done.append(minibatch)
            if len(done) == 1:
                self.diagnostics.compare(policy.log_ratio, batch)
            if config.target_kl is not None and policy.approx_kl.item() > 1.5 * config.target_kl:
                return False
            try:
                minibatch.grad_norm = self.step(loss, terms)
            except NonFiniteError as error:
                error.batch = _tensors(batch)
                raise
            self.gradient_steps += 1
        return True

    def _metrics(self, done: list[Minibatch], progress: float) -> dict[str, float]:
        """The terms' means over the minibatches, and the statistics of all their ratios."""
        values = torch.stack([value for minibatch in done for value in minibatch.terms])
        mean = values.view(len(done), len(TERMS)).mean(0).tolist()
        ratios = ratio_statistics(
            log_ratio=torch.cat([minibatch.log_ratio for minibatch in done]),
            clip=self._clip(progress),
        )
        norms = [m.grad_norm for m in done if m.grad_norm is not None]
        return dict(zip(TERMS, mean, strict=True)) | {
            "approx_kl": ratios.approx_kl.item(),
            "clip_fraction": ratios.clip_fraction.item(),
            "max_log_ratio": ratios.max_log_ratio.item(),
            "first_log_ratio": done[0].log_ratio.abs().max().item(),
            "grad_norm": sum(norms) / max(len(norms), 1),
        }

    def _clip(self, progress: float) -> tuple[float, float]:
        config = self.config
        low, high = config.clip_range, config.clip_range_high or config.clip_range
        schedule = config.clip_schedule
        return scheduled(low, schedule, progress), scheduled(high, schedule, progress)

    def loss(
        self, batch: Sequences, progress: float
    ) -> tuple[Tensor, dict[str, Tensor], PolicyLoss]:
        """PPO's loss on a minibatch, the scalars named in `TERMS`, and the policy's part."""
        config = self.config
        dist, value, _ = self.policy(
            batch.obs, batch.carry, batch.reset, batch.previous_action, batch.previous_reward
        )
        advantage = batch.advantage
        if config.normalise_advantage:
            advantage = normalise(advantage)
        policy = policy_loss(
            log_prob=dist.log_prob(batch.action),
            old_log_prob=batch.log_prob,
            advantage=advantage,
            clip=self._clip(progress),
        )
        critic = value_loss(
            value=value,
            target=batch.target,
            old_value=batch.value,
            value_clip=config.value_clip,
            huber=config.value_huber,
        )
        bonus = scheduled(config.entropy_coef, config.entropy_schedule, progress)
        with torch.set_grad_enabled(bonus > 0):
            entropy = dist.entropy(self.generator).mean()
        loss = policy.loss + config.value_coef * critic.loss
        if bonus > 0:
            loss = loss - bonus * entropy
        terms = (policy.loss, critic.loss, entropy, critic.clip_fraction)
        return loss, dict(zip(TERMS, terms, strict=True)), policy

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
        self.generator.set_state(tensors["generator"])
        self.optimizer.restore(under_prefix("optimizer.", tensors))
        if self.reward_normaliser is not None:
            self.reward_normaliser.load_state_dict(under_prefix("reward.", tensors))
        self.gradient_steps = facts["gradient_steps"]
        self.diagnostics.restore(facts["diagnostics"])


def _tensors(batch: Sequences) -> dict[str, Tensor]:
    """A minibatch as named tensors, to be saved when something in it broke."""
    named: dict[str, Tensor] = {}
    for name in ("action", "log_prob", "value", "advantage", "target", "reset"):
        named[name] = getattr(batch, name)
    for name, tree in (("obs", batch.obs), ("carry", batch.carry)):
        named |= {f"{name}.{i}": leaf for i, leaf in enumerate(tree_leaves(tree))}
    for name in ("previous_action", "previous_reward"):
        if getattr(batch, name) is not None:
            named[name] = getattr(batch, name)
    return named
