"""The common part of every algorithm that learns from a replay: when steps are taken and learned
from, the two optimizers, and the slow target networks.

*Who trains the memory.* The critic's loss trains the critic's torso (encoder and memory). With
`memory_owner="critic"` the actor reads those features without gradient; with "separate" it has its
own torso, trained by its own loss. Either way each parameter is stepped once per update, and the
target networks hold a slow copy of every torso that their values depend on.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.algos.adam import Adam
from retain.algos.compiled import CompiledStep
from retain.algos.off_policy_config import OffPolicyConfig
from retain.algos.off_policy_losses import OffPolicyLosses
from retain.algos.optim import SafeStep, check_ownership, follow, new_flag
from retain.algos.pieces import Batch, pieces_of
from retain.algos.schedules import scheduled
from retain.algos.together import bucket, count_rewards, emptied, observe
from retain.algos.turns import Turns
from retain.data.experience import Experience
from retain.data.replay import Replay
from retain.data.shards import Shards, shard_seed
from retain.errors import NonFiniteError, UsageError
from retain.nn.noise import Source
from retain.nn.q_networks import OffPolicyNets
from retain.types import restore_generator, under_prefix, with_prefix

Rates: TypeAlias = Mapping[str, float | Tensor]
"""Step sizes by the name of the optimizer: numbers or scalars."""

PRIORITY = "priority"
"""Key of the new priorities among the metrics of a gradient step."""


class OffPolicyUpdate(OffPolicyLosses):
    """Turns pieces of a replay into gradient steps. Subclasses define the losses.

    Args:
        seed: seed of the losses' samples.
    """

    replays: Sequence[Replay]
    """The replay of each of this process's shards; their owner sets them before the first
    update."""

    def __init__(self, config: OffPolicyConfig, nets: OffPolicyNets, *, seed: int) -> None:
        self.config, self.nets = config, nets
        self.pieces = pieces_of(config, nets.receptive_field, unrolls=nets.unrolls)
        self.generator = torch.Generator(next(nets.parameters()).device).manual_seed(seed)
        self.source: Source = self.generator
        """The origin of the noise that a loss samples with."""
        self.broken = new_flag(next(nets.parameters()).device)
        self._unread: list[list[Batch]] = []
        """Batches, one for each shard, of gradient steps that nobody has asked yet whether they
        were finite."""
        self._optimizers: dict[str, Adam] = {}
        self.steps: dict[str, SafeStep] = {}
        actor_rate = config.actor_learning_rate
        self._rates: dict[str, float] = {}
        self._own("critic", nets.critic, config.learning_rate)
        if nets.actor is not None:
            rate = config.learning_rate if actor_rate is None else actor_rate
            self._own("actor", nets.actor, rate)
        trained = torch.nn.ModuleList(m for m in (nets.critic, nets.actor) if m is not None)
        check_ownership(trained, *self._optimizers.values())
        self.gradient_steps = 0
        self.due = 0.0
        """Number of updates that the steps so far have earned and that are still to be done."""
        self._ready = False
        self._pairs = self._target_pairs()
        self._take: Callable[..., dict[str, Tensor]] = self.gradient_step
        self.shards = Shards()
        self.generators = {0: self.generator}
        """The noise of the losses, by shard."""
        if config.compile:
            self._take = CompiledStep(self, nets, self.gradient_step, size=lambda batch: 1)

    def divide(self, shards: Shards, seed: int) -> None:
        """Makes this the update of several shards; before the first update.

        Args:
            seed: see the constructor; each shard's noise derives from it.
        Raises:
            UsageError: the update is compiled.
        """
        if self.config.compile:
            raise UsageError(
                f"compile is on and shards is {shards.count}, but a compiled step cannot wait for "
                "other shards between its optimizers (expected one of them off)"
            )
        self.shards, device = shards, self.generator.device
        self.generators = {
            shard: torch.Generator(device).manual_seed(shard_seed(seed, shard))
            for shard in shards.own
        }
        self._turns: Turns[dict[str, Tensor]] = Turns(len(shards.own), self._enter)
        self._enter(0)
        for step in self.steps.values():
            step.together = self._meet

    def _enter(self, place: int) -> None:
        """Takes noise from the generator of this process's shard with that place from now on."""
        self.generator = self.source = self.generators[self.shards.own[place]]

    def _meet(
        self,
        step: SafeStep,
        gradients: Sequence[Tensor | None],
        loss: Tensor,
        rate: float | Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Takes an optimizer's step together with the other shards."""
        full = bucket(loss.detach(), step.parameters, gradients)
        reached = [gradient is not None for gradient in gradients]
        result: tuple[Tensor, Tensor] = self._turns.meet((step, full, reached, rate))
        return result

    def _joined(self, brought: list[Any]) -> tuple[Tensor, Tensor]:
        """The step on the mean of all shards' gradients."""
        step, _, reached, rate = brought[0]
        mean = self.shards.mean([full for _, full, _, _ in brought])
        total, gradients = emptied(mean, step.parameters, reached)
        result: tuple[Tensor, Tensor] = step.apply(gradients, total, rate)
        return result

    @property
    def replay(self) -> Replay:
        """The replay of this process's first shard."""
        return self.replays[0]

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The critic's optimizer, and the actor's if there is one."""
        return self._optimizers

    @abstractmethod
    def scale(self, progress: float) -> float:
        """How much acting explores at `progress` in [0, 1] of the run."""

    def actor_due(self) -> bool:
        """Whether this update steps the actor."""
        return self.nets.actor is not None

    def after_update(
        self, batch: Batch, terms: Mapping[str, Tensor], rates: Rates
    ) -> dict[str, Tensor]:
        """Makes the update's further changes; returns metrics about them.

        Args:
            terms: the metrics of the actor's loss; empty if it was not due.
            rates: the step size of each optimizer.
        """
        return {}

    def _own(self, name: str, module: torch.nn.Module, rate: float) -> None:
        self._rates[name] = rate
        self._optimizers[name] = Adam(module.parameters(), lr=rate, eps=self.config.adam_eps)
        self.steps[name] = SafeStep(
            module, self._optimizers[name], self.config.max_grad_norm, self.broken,
            kernels=self.config.kernels,
        )  # fmt: skip

    def _target_pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        online, target = list(self.nets.critic.parameters()), []
        target += list(self.nets.target_critic.parameters())
        if self.nets.target_actor is not None:
            assert self.nets.actor is not None
            online += list(self.nets.actor.parameters())
            target += list(self.nets.target_actor.parameters())
        return [p.detach() for p in online], target

    def turn(
        self,
        collector: Experience,
        progress: Callable[[], float],
        over: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Takes `num_steps` steps in every environment and does the updates due.

        Args:
            progress: gives the schedules' current position, in [0, 1].
            over: says whether the run has taken all its steps.
        Returns:
            Means over the updates by name, NaN without updates (docs/metrics.md).
        """
        config = self.config
        before = [replay.written.copy() for replay in self.replays]
        seen: dict[str, list[Tensor]] = {name: [] for name in self.METRICS}
        for _ in range(config.num_steps):
            if over():
                break
            share = progress()
            random = collector.steps < config.learning_starts
            collector.step(scale=self.scale(share), random=random)
            self._check()
            if collector.steps < config.learning_starts or not self.ready():
                continue
            self.due += config.update_ratio * collector.all_envs
            while self.due >= 1.0:
                self.due -= 1.0
                for name, value in self.update(share).items():
                    seen[name].append(value)
        self._check()
        self._normalise(collector, before)
        row = {
            name: torch.stack(values).mean().item() if values else math.nan
            for name, values in seen.items()
        }
        return row | {
            "exploration": self.scale(progress()),
            "learning_rate": self._optimizers["critic"].param_groups[0]["lr"],
            "replay_size": self.shards.total([float(len(one)) for one in self.replays]),
            "gradient_steps": float(self.gradient_steps),
        }

    def _normalise(self, collector: Experience, before: Sequence[NDArray[np.int64]]) -> None:
        """Takes the rows since `before`, one number for each environment of each shard, into the
        statistics."""
        normaliser, rewards = self.nets.normaliser, self.nets.rewards
        if normaliser is None and rewards is None:
            return
        pairs = zip(self.replays, before, strict=True)
        rows = [replay.read(*replay.rows_since(since)) for replay, since in pairs]
        if normaliser is not None:
            observe([collector.as_step(one) for one in rows], normaliser, self.shards)
        if rewards is not None:
            count_rewards([collector.as_rewards(one) for one in rows], rewards, self.shards)

    def ready(self) -> bool:
        """Whether the replay holds a piece to learn from; once true, it stays true."""
        if not self._ready:
            able = [float(self._can_sample(replay)) for replay in self.replays]
            self._ready = self.shards.total(able) == self.shards.count
        return self._ready

    def _can_sample(self, replay: Replay) -> bool:
        pieces = self.pieces
        if pieces.stored:
            return replay.can_sample(pieces.span)
        return replay.can_sample(pieces.rows, pieces.history)

    def update(self, progress: float) -> dict[str, Tensor]:
        """Takes one gradient step for each part that is due.

        Args:
            progress: finished share of the run, in [0, 1].
        Returns:
            Scalars by name (docs/metrics.md).
        Raises:
            NonFiniteError: a loss or gradient was not finite; that optimizer did not step, and the
                error carries the sample as `batch`.
        """
        rates = self._set_rates(progress)
        batches = [self.draw(progress, place) for place in range(len(self.replays))]
        self.gradient_steps += 1
        due = self.actor_due()
        if self.shards.several:
            shares = [partial(self._take, batch, rates, due) for batch in batches]
            found = self._turns.run(shares, self._joined)
            self._follow()
        else:
            found = [self._take(batches[0], rates, due)]
        for metrics, batch, replay in zip(found, batches, self.replays, strict=True):
            if (priority := metrics.pop(PRIORITY, None)) is not None:
                replay.set_priorities(batch.sample.slot, priority.cpu().numpy())
        self._unread.append(batches)
        if self.broken.device.type == "cpu":  # reading costs nothing there
            self._check()
        if not self.shards.several:
            return found[0]
        mean = self.shards.mean([torch.stack(list(metrics.values())) for metrics in found])
        return dict(zip(found[0], mean.unbind(), strict=True))

    def gradient_step(self, batch: Batch, rates: Rates, actor_due: bool) -> dict[str, Tensor]:
        """The losses on a batch, their gradients, the optimizers' steps, and the target networks'.
        Reads and writes tensors on the device only, and compiles as one graph."""
        batch = replace(batch)  # features with a gradient must not leave a compiled graph
        self.perceive(batch)
        target = self.target(batch)
        value = self.predicted(batch)
        loss = self.critic_loss(batch, value, target)
        metrics = {"critic_loss": loss, "q_mean": batch.mean(value.detach())}
        if batch.mask is not None:
            metrics["masked_fraction"] = 1.0 - batch.mask.float().mean()
        _, metrics["grad_norm"] = self.steps["critic"](loss, rates["critic"])
        if batch.sample.weight is not None:
            metrics[PRIORITY] = self.priority(batch, value.detach(), target)
        terms: dict[str, Tensor] = {}
        if actor_due:
            actor_loss, terms = self.actor_loss(batch, self.actor_features(batch))
            self.steps["actor"](actor_loss, rates["actor"])
            metrics |= {"actor_loss": actor_loss, **terms}
        metrics |= self.after_update(batch, terms, rates)
        if not self.shards.several:
            self._follow()
        return {name: value.detach() for name, value in metrics.items()}

    @torch.no_grad()
    def _follow(self) -> None:
        """Moves the target networks towards the online ones, unless a step was not finite."""
        online, slow = self._pairs
        follow(slow, online, self.config.tau * (1 - self.broken))

    def _set_rates(self, progress: float) -> Rates:
        """The step sizes at `progress` of the run, which the optimizers show as well."""
        rates: dict[str, float] = {}
        for name, rate in self._rates.items():
            rates[name] = scheduled(rate, self.config.lr_schedule, progress)
            self._optimizers[name].param_groups[0]["lr"] = rates[name]
        return rates

    def _check(self) -> None:
        """Raises NonFiniteError if a gradient step since the last check was not finite."""
        steps, self._unread = self._unread, []
        if not steps or not bool(self.broken):
            return
        self.broken.zero_()
        for number, batches in enumerate(steps):
            own = [self._diagnosis(batch) for batch in batches]
            ranks = self.shards.exchange.objects(own)
            everywhere = [each for rank in ranks for each in rank]
            name, tensors = next((e for e in everywhere if e[0] is not None), everywhere[0])
            if name is None and number < len(steps) - 1:
                continue
            self.gradient_steps -= len(steps) - number
            error = NonFiniteError(name or "a loss or its gradient was not finite")
            error.batch = tensors
            raise error

    def _diagnosis(self, batch: Batch) -> tuple[str | None, dict[str, Tensor]]:
        """The name of what is not finite in a batch's losses, and the batch as named tensors."""
        self.perceive(batch)
        target = self.target(batch)
        loss = self.critic_loss(batch, self.predicted(batch), target)
        name = self.steps["critic"].diagnosis(loss, {"critic_loss": loss})
        if name is None and self.nets.actor is not None:
            loss, _ = self.actor_loss(batch, self.actor_features(batch))
            name = self.steps["actor"].diagnosis(loss, {"actor_loss": loss})
        sample = batch.sample
        return name, {"action": sample.action, "reward": sample.reward, "target": target}

    def batch(self, progress: float) -> Batch:
        """Draws a sample at `progress` of the run, and computes the critic's features."""
        batch = self.draw(progress)
        self.perceive(batch)
        return batch

    def draw(self, progress: float, place: int = 0) -> Batch:
        """Draws a sample at `progress` of the run from one of this process's shards."""
        config, pieces = self.config, self.pieces
        length, before = pieces.length, pieces.history
        beta = config.priority_beta + (1 - config.priority_beta) * progress
        # A piece starts where its carry is stored, or at the step that a window looks back from.
        inside, outside = (before, 0) if pieces.stored else (0, before)
        count = config.batch_size // self.shards.count // length
        sample = (
            self.replays[place]
            .sample(count, pieces.rows + inside, before=outside, beta=beta)
            .to(self.generator.device)
        )
        previous = self.nets.previous(sample.previous_action, sample.previous_reward, sample.reset)
        carries: Any = sample.carry
        if carries is None:
            carries = self.nets.initial_carry(sample.reset.shape[1])
        obs = self.nets.prepare(sample.obs)
        alone = length == 1 and not pieces.stored
        return Batch(sample, obs, previous, carries, before, length, alone)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Optimizers and generator: tensors, and JSON for the rest."""
        tensors = {self._key(n): one.get_state() for n, one in self.generators.items()}
        for name, optimizer in self._optimizers.items():
            tensors |= with_prefix(f"{name}.", optimizer.tensors())
        return tensors, {"gradient_steps": self.gradient_steps, "due": self.due}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restores what `state` returned, of this process's shards."""
        for shard, generator in self.generators.items():
            restore_generator(generator, tensors[self._key(shard)])
        for name, optimizer in self._optimizers.items():
            optimizer.restore(under_prefix(f"{name}.", tensors))
        self.gradient_steps, self.due = facts["gradient_steps"], facts["due"]

    def _key(self, shard: int) -> str:
        return f"generator.{shard}" if self.shards.several else "generator"
