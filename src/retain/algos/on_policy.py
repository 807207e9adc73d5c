"""The common part of every algorithm that learns from fresh segments: it collects a segment,
computes targets, cuts the segment into sequences at the stored carries, and makes passes over
shuffled minibatches of them with the same forward that acted. An algorithm defines the targets and
the loss.

*Who trains the memory.* There is one loss and one optimizer; they own every parameter, including
the memory's. Without memory a sequence is one step. With memory it is the whole segment, or a chunk
of it that begins with the carry that acting left there.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from retain.algos.adam import Adam
from retain.algos.ahead import Ahead
from retain.algos.compiled import CompiledStep
from retain.algos.diagnostics import DISAGREE, Diagnostics, Seen, read, where_largest
from retain.algos.on_policy_config import OnPolicyConfig
from retain.algos.on_policy_losses import Loss, OnPolicyLosses
from retain.algos.optim import SafeStep
from retain.algos.passes import Minibatch, Part, Pass
from retain.algos.schedules import scheduled
from retain.algos.together import bucket, emptied, moments, observe, rewarded
from retain.data.collector import Collector
from retain.data.rollout import Rollout, Sequences
from retain.data.shards import Shards, shard_seed
from retain.errors import NonFiniteError
from retain.nn.noise import Source
from retain.nn.normaliser import RewardNormaliser
from retain.nn.policy import SegmentPolicy
from retain.types import (
    Carry,
    Obs,
    restore_generator,
    tree_leaves,
    tree_map,
    under_prefix,
    with_prefix,
)

BROKEN = "broken"
"""Key of a step's flag in the metrics until they are read."""


class OnPolicyUpdate(OnPolicyLosses):
    """Turns segments into gradient steps. Subclasses define the targets and the loss.

    Args:
        policy: the policy that `networks` made.
        seed: seed of the minibatch order and of anything that the loss samples.
        num_envs: B, for the reward normaliser's running returns.
    """

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
        self.ahead = Ahead(policy) if config.overlap else None
        """The segment collected ahead, with `overlap`."""
        self.divide(Shards(), seed)

    def divide(self, shards: Shards, seed: int) -> None:
        """Makes this the update of several shards; before the first update.

        Args:
            seed: see the constructor; each shard's noise derives from it.
        """
        self.shards = shards
        self.generators = {
            shard: torch.Generator(self.generator.device).manual_seed(shard_seed(seed, shard))
            for shard in shards.own
        }
        self._use(shards.own[0])
        function = self.shard_gradient if shards.several else self.gradient_step
        self._take: Callable[..., Any] = function
        if self.config.compile:
            self._take = CompiledStep(self, self.policy, function, size=len)

    def _use(self, shard: int) -> None:
        """Takes noise from that shard's generator from now on."""
        self.generator = self.source = self.generators[shard]

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The single optimizer."""
        return {"policy": self.optimizer}

    def turn(self, collector: Collector, progress: Callable[[], float]) -> dict[str, float]:
        """Collects a segment and updates on it.

        Args:
            progress: gives the finished share of the run, in [0, 1].
        """
        if self.ahead is not None:
            return self._turn_ahead(self.ahead, collector, progress)
        share = progress()
        exploration = self.explore(share)
        collect = collector.collect_shards if self.shards.several else collector.collect
        return self.update(collect(self.config.num_steps), share) | exploration

    def _turn_ahead(
        self, ahead: Ahead, collector: Collector, progress: Callable[[], float]
    ) -> dict[str, float]:
        """Updates on the segment that is ready, and collects the next one meanwhile."""
        steps = self.config.num_steps
        if ahead.ready is None:
            ahead.share = progress()
            self.explore(ahead.share)
            ahead.ready = ahead.collect(collector, steps).result()
        share, next_share = ahead.share, progress()
        exploration = self.explore(next_share)
        following = ahead.collect(collector, steps)
        if self.config.compile and not ahead.learned:
            wait([following])  # a graph is not made while anything else runs
        try:
            row = self.update(ahead.ready, share)
        finally:
            wait([following])
        ahead.ready, ahead.share, ahead.learned = following.result(), next_share, True
        return row | exploration

    def update(self, rollout: Rollout | Sequence[Rollout], progress: float) -> dict[str, float]:
        """One update on a segment.

        Args:
            rollout: the segment; with several shards, the segments of this process's shards.
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
        rollouts = [rollout] if isinstance(rollout, Rollout) else list(rollout)
        if self.reward_normaliser is not None:
            rollouts = rewarded(rollouts, self.reward_normaliser, self.shards)
        parts = [self._part(*each) for each in zip(self.shards.own, rollouts, strict=True)]
        for epoch in range(config.epochs):
            for part in parts:
                self._begin_pass(part, refresh=epoch > 0 and config.refresh_carries)
            if self._train(parts, progress, rate):
                break
        if self.policy.normaliser is not None:
            # Only now: acting and training on this segment saw the same statistics.
            observe([one.obs for one in rollouts], self.policy.normaliser, self.shards)
        row = read(self._metrics(parts, progress) | self._look(parts))
        if row.pop(BROKEN):
            raise self._failure(parts, progress)
        if self.ahead is not None:  # whose parameters did not act
            row[f"stale_{self.GAP}"] = row.pop(f"first_{self.GAP}")
        elif row[f"first_{self.GAP}"] > DISAGREE:
            self.diagnostics.disagreement = self._disagreement(parts)
        return row | {"learning_rate": rate, "gradient_steps": float(self.gradient_steps)}

    def _part(self, shard: int, rollout: Rollout) -> Part:
        """A shard's part, with the targets of its segment."""
        advantage, target = self.targets(rollout)
        obs = self.policy.prepare(rollout.obs)
        return Part(
            shard, rollout, obs, advantage, target, self.cut(rollout, obs, advantage, target)
        )

    def _begin_pass(self, part: Part, *, refresh: bool) -> None:
        """Draws the order of a shard's next pass."""
        if refresh:
            fresh = self._refreshed(part.rollout, part.obs)
            part.sequences = self.cut(fresh, part.obs, part.advantage, part.target)
        size = self.size(part.sequences)
        order = part.sequences.order(size, self.generators[part.shard])
        part.passes.append(Pass(part.sequences, size, order))

    def size(self, sequences: Sequences) -> int:
        """Sequences in a minibatch, or in a shard's part of one."""
        if self.config.batch_size is None:
            return len(sequences)
        own = int(self.config.batch_size) // self.shards.count
        return max(1, own // int(self.config.sequence))

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

    def shard_gradient(self, batch: Sequences, progress: float) -> tuple[Loss, list[Tensor | None]]:
        """The loss of a shard's part of a minibatch, and its gradient. Compiles as one graph."""
        loss = self.loss(batch, progress)
        gradients = self.step.gradients(loss.total)
        terms = {name: term.detach() for name, term in loss.terms.items()}
        return Loss(loss.total.detach(), terms, loss.gap), gradients

    def _train(self, parts: list[Part], progress: float, rate: float) -> bool:
        """Takes a gradient step on every minibatch of a pass; returns whether one ended the
        update."""
        passes = [part.passes[-1] for part in parts]
        scales = moments(passes, self.shards) if self.shards.several else []
        for place, batches in enumerate(zip(*(one.minibatches() for one in passes), strict=True)):
            if self.shards.several:
                whole = [replace(batch, moments=scales[place]) for batch in batches]
                taken = self._together(whole, progress, rate)
            else:
                taken = [self._take(batches[0], progress, rate)]
            for one, minibatch in zip(passes, taken, strict=True):
                one.done.append(minibatch)
            stop = taken[0].stop
            if stop is not None and bool(stop):
                for one in passes:
                    one.stopped = True
                return True
            self.gradient_steps += 1
        return False

    def _together(self, batches: list[Sequences], progress: float, rate: float) -> list[Minibatch]:
        """One gradient step on the mean of the shards' losses."""
        losses: list[Loss] = []
        buckets: list[Tensor] = []
        reached: list[bool] = []
        for shard, batch in zip(self.shards.own, batches, strict=True):
            self._use(shard)
            loss, gradients = self._take(batch, progress)
            losses.append(Loss(loss.total.clone(), {k: v.clone() for k, v in loss.terms.items()},
                               loss.gap.clone()))  # fmt: skip
            reached = [gradient is not None for gradient in gradients]
            buckets.append(bucket(loss.total, self.step.parameters, gradients))
        total, mean = emptied(self.shards.mean(buckets), self.step.parameters, reached)
        stop = self._stop(losses)
        norms, norm = self.step.apply(mean, total, rate, skip=stop)
        return [Minibatch(one.terms, total, one.gap, norms, norm, stop) for one in losses]

    def _stop(self, losses: list[Loss]) -> Tensor | None:
        """Whether the whole minibatch's loss ends the update; see `enough`."""
        if self.enough(losses[0]) is None:
            return None
        gap = self.shards.all([loss.gap for loss in losses]).flatten(0, 1)
        return self.enough(replace(losses[0], gap=gap))

    def _metrics(self, parts: list[Part], progress: float) -> dict[str, float | Tensor]:
        """The terms' means over the minibatches, and the statistics of all their gaps."""
        done = parts[0].done
        names = list(done[0].terms)
        means = []
        for part in parts:
            values = torch.stack([one.terms[name] for one in part.done for name in names])
            means.append(values.view(len(done), len(names)).mean(0))
        mean = self.shards.mean(means).unbind()
        gap = self.shards.all([torch.cat([m.gap.flatten() for m in p.done]) for p in parts])
        first = self.shards.all([part.done[0].gap.abs().max() for part in parts]).max()
        stepped = done[: len(done) - parts[0].passes[-1].stopped]
        norm = torch.stack([m.norm for m in stepped]).mean() if stepped else 0.0
        return {
            **dict(zip(names, mean, strict=True)),
            **self.statistics(gap.flatten(), progress),
            f"first_{self.GAP}": first,
            "grad_norm": norm,
            BROKEN: self.step.broken,
        }

    def _look(self, parts: list[Part]) -> dict[str, float | Tensor]:
        """The diagnostics of the values and the memory."""
        seen = [Seen(part.rollout, part.obs, part.target) for part in parts]
        norms = parts[0].done[-1].norms
        return self.diagnostics.look(seen, self.step.parameters, norms, self.shards)

    def _disagreement(self, parts: list[Part]) -> str:
        """The place where acting and training disagree most."""
        found = []
        for part in parts:
            gap = part.done[0].gap
            found.append((float(gap.abs().max()), where_largest(gap, part.passes[0].batch(0))))
        worst: str = max(each for rank in self.shards.exchange.objects(found) for each in rank)[1]
        return worst

    def _failure(self, parts: list[Part], progress: float) -> NonFiniteError:
        """Names what was not finite first, and takes back the count of the steps skipped since."""
        self.step.broken.zero_()
        done = parts[0].done
        whole = torch.stack([one.norm + one.total for one in done])
        first = int(whole.isfinite().logical_not().nonzero()[0])
        self.gradient_steps -= len(done) - first
        found = []
        for part in parts:
            self._use(part.shard)
            places = [(one, i) for one in part.passes for i in range(len(one.done))]
            one, place = places[first]
            batch = one.batch(place)
            loss = self.loss(batch, progress)
            found.append((self.step.diagnosis(loss.total, loss.terms), _tensors(batch)))
        everywhere = [each for rank in self.shards.exchange.objects(found) for each in rank]
        name, tensors = next((each for each in everywhere if each[0] is not None), everywhere[0])
        error = NonFiniteError(name or "a loss or its gradient was not finite")
        error.batch = tensors
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
        tensors = {self._key("generator", n): g.get_state() for n, g in self.generators.items()}
        tensors |= with_prefix("optimizer.", self.optimizer.tensors())
        if self.reward_normaliser is not None:
            statistics = self.reward_normaliser.state_dict()
            running = statistics.pop("running").chunk(len(self.shards.own))
            tensors |= with_prefix("reward.", statistics)
            for shard, own in zip(self.shards.own, running, strict=True):
                tensors[self._key("reward.running", shard)] = own.clone()
        facts = {"gradient_steps": self.gradient_steps, "diagnostics": self.diagnostics.state()}
        if self.ahead is not None and self.ahead.ready is not None:
            tensors |= self.ahead.tensors(self.shards.own)
            facts["ahead"] = self.ahead.share
        return tensors, facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes back what `state` gave, of this process's shards."""
        for shard, generator in self.generators.items():
            restore_generator(generator, tensors[self._key("generator", shard)])
        self.optimizer.restore(under_prefix("optimizer.", tensors))
        if self.reward_normaliser is not None:
            own = [tensors[self._key("reward.running", shard)] for shard in self.shards.own]
            names = [name for name in self.reward_normaliser.state_dict() if name != "running"]
            statistics = {name: tensors[f"reward.{name}"] for name in names}
            self.reward_normaliser.load_state_dict(statistics | {"running": torch.cat(own)})
        self.gradient_steps = facts["gradient_steps"]
        self.diagnostics.restore(facts["diagnostics"])
        if self.ahead is not None and "ahead" in facts:
            self.ahead.restore(tensors, facts["ahead"], self.shards.own)

    def _key(self, name: str, shard: int) -> str:
        return f"{name}.{shard}" if self.shards.several else name


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
