"""What the shards of a run share in an update: statistics and gradients of the whole
minibatch, put together in the order of the shards."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from retain.algos.passes import Pass
from retain.data.rollout import Rollout
from retain.data.shards import Shards
from retain.nn.normaliser import ObsNormaliser, RewardNormaliser, SteadyRewards
from retain.ops import RunningStats, batch_stats, merge_stats
from retain.types import Obs


def rewarded(
    rollouts: list[Rollout], normaliser: RewardNormaliser, shards: Shards
) -> list[Rollout]:
    """The segments with scaled rewards; those of all shards enter the statistics first."""
    ended = [one.terminated | one.truncated for one in rollouts]
    if not shards.several:
        return [replace(rollouts[0], reward=normaliser(rollouts[0].reward, ended[0]))]
    B = rollouts[0].reward.shape[1]
    summaries = [
        normaliser.summary(one.reward, end, slice(n * B, (n + 1) * B))
        for n, (one, end) in enumerate(zip(rollouts, ended, strict=True))
    ]
    for summary in shards.all(summaries):
        normaliser.returns.merge(summary)
    return [replace(one, reward=normaliser.scale(one.reward)) for one in rollouts]


def observe(obs: list[Obs], normaliser: ObsNormaliser, shards: Shards) -> None:
    """Takes the observations of all shards' segments into the statistics."""
    if not shards.several:
        normaliser.update(obs[0])
        return
    for summary in shards.all([normaliser.summary(one) for one in obs]):
        normaliser.merge(summary)


def count_rewards(rewards: list[Tensor], sizes: SteadyRewards, shards: Shards) -> None:
    """Takes the rewards `[N]` of each shard into their size."""
    found = [sizes.summary(one) for one in rewards]
    for summary in shards.all(found) if shards.several else found:
        sizes.merge(summary)


def moments(passes: list[Pass], shards: Shards) -> list[tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each minibatch's advantages over all shards: scalars."""
    found = []
    for one in passes:
        stats = [batch_stats(batch.advantage.flatten()) for batch in one.minibatches()]
        found.append(torch.stack([torch.stack(list(each)) for each in stats]))
    result = []
    for parts in shards.all(found).unbind(1):  # [S, 3] of one minibatch
        count, mean, var = reduce(merge_stats, (RunningStats(*part) for part in parts))
        std = (var * count / (count - 1)).sqrt()
        result.append((mean.to(torch.float32), std.to(torch.float32)))
    return result


def bucket(
    total: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> Tensor:
    """`[1 + P]` a loss and all its gradients in a row; zeros where the loss does not reach."""
    pairs = zip(gradients, parameters, strict=True)
    flat = [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs]
    return torch.cat([total.view(1), *flat])


def emptied(
    full: Tensor, parameters: Sequence[Tensor], reached: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """The loss and the gradients in a bucket, each in its parameter's memory layout."""
    total, *flat = torch.split(full, [1, *(p.numel() for p in parameters)])
    gradients = [
        torch.empty_like(p).copy_(x.view(p.shape)) if there else None
        for p, x, there in zip(parameters, flat, reached, strict=True)
    ]
    return total.view(()), gradients
