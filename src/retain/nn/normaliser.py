"""Running normalisation of observations, saved with the model.

The statistics change only when `update` is called, between an update and the next collection, so
acting and training on a segment see the same numbers.
"""

from collections.abc import Iterator
from typing import Any, TypeGuard

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from retain.nn.encoders import ACTION_MASK, channels_last, is_image, is_small_image
from retain.ops import (
    RunningStats,
    batch_stats,
    discounted_sum,
    merge_stats,
    normalise_with,
    running_stats,
    update_stats,
)
from retain.ops.running_stats import CLIP
from retain.types import Obs

SPREAD = 10.0
"""How many times too large or too small an entry may be, for `SteadyStats`."""
REWARD_SIZE = 100.0
"""The same for rewards, for `SteadyRewards`."""
STILL = 1e-8
"""Spread of an entry that has not moved yet."""
SETTLING = 1000
"""Observations, or rewards, until which the steady normalisers decide anew."""


class StatsModule(nn.Module):
    """Running count, mean and variance as float64 buffers."""

    count: Tensor
    mean: Tensor
    var: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        for name, value in running_stats(shape)._asdict().items():
            self.register_buffer(name, value)

    @property
    def stats(self) -> RunningStats:
        """The pure state that `retain.ops.running_stats` works on."""
        return RunningStats(self.count, self.mean, self.var)

    def update(self, batch: Tensor) -> None:
        """Adds `[N, *shape]` new values."""
        self._take(update_stats(self.stats, batch))

    def summary(self, batch: Tensor) -> Tensor:
        """The statistics of `[N, *shape]` values alone as one flat tensor, for `merge`."""
        return torch.cat([x.flatten() for x in batch_stats(batch)])

    def merge(self, summary: Tensor) -> None:
        """Adds the values that a `summary` tells of."""
        count, mean, var = torch.split(summary, [1, self.mean.numel(), self.var.numel()])
        shape = self.mean.shape
        other = RunningStats(count.view(()), mean.view(shape), var.view(shape))
        self._take(merge_stats(self.stats, other))

    def _take(self, stats: RunningStats) -> None:
        for name, value in stats._asdict().items():
            getattr(self, name).copy_(value)

    def forward(self, x: Tensor, *, centre: bool = True) -> Tensor:
        """`(x - mean) / std`, clipped to 10; the dtype stays the same."""
        return normalise_with(self.stats, x, centre=centre)


class SteadyStats(StatsModule):
    """Normalises only the entries of a vector that are far from size 1, and then holds still.

    What learns from a replay relearns whatever moves: under a running mean and variance an old
    observation is another input each time it is drawn. So an entry whose spread is between 0.1 and
    10 and whose mean is not beyond 10 stays as it is. Any other gets mean 0 and spread 1 by the
    statistics of that time, and keeps them until it is as far off again.
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.register_buffer("shift", torch.zeros_like(self.mean))
        self.register_buffer("spread", torch.ones_like(self.var))

    def _take(self, stats: RunningStats) -> None:
        super()._take(stats)
        if self.count <= SETTLING:
            self.shift.zero_()
            self.spread.fill_(1.0)
        std = self.var.sqrt()
        size, distance = std / self.spread, (self.mean - self.shift).abs() / self.spread
        off = ((size < 1 / SPREAD) | (size > SPREAD) | (distance > SPREAD)) & (std > STILL)
        self.shift.copy_(torch.where(off, self.mean, self.shift))
        self.spread.copy_(torch.where(off, std, self.spread))

    def forward(self, x: Tensor, *, centre: bool = True) -> Tensor:
        """The entries, normalised where that is needed, clipped to 100; the dtype stays the
        same."""
        if centre:
            x = x - self.shift.to(x.dtype)
        return (x * self.spread.reciprocal().to(x.dtype)).clamp(-SPREAD * CLIP, SPREAD * CLIP)


class ChannelStats(StatsModule):
    """Statistics of each channel of a small image of bytes, over all its pixels.

    Bytes that are divided by the largest of their space are hardly there if they are numbers of
    kinds and colours, as in a grid world: 0 to 10 of 255. Before any data has been seen, bytes are
    divided in that way.
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        self.flat = len(space.shape) == 2
        """Whether the images are `[H, W]`, of one channel."""
        self.first = not self.flat and not channels_last(space)
        """Whether the channels are the first axis of an image."""
        super().__init__((1 if self.flat else space.shape[0 if self.first else -1],))
        self.var.fill_(float(space.high.max()) ** 2)

    def rows(self, images: Tensor) -> Tensor:
        """`[..., H, W, C]`, `[..., C, H, W]` or `[..., H, W]` to `[N, C]` pixels."""
        images = images.movedim(-3, -1) if self.first else images
        return images.reshape(-1, len(self.mean)).float()

    def update(self, batch: Tensor) -> None:
        """Adds `[N, *shape]` new images."""
        super().update(self.rows(batch))

    def summary(self, batch: Tensor) -> Tensor:
        """See `StatsModule.summary`."""
        return super().summary(self.rows(batch))

    def forward(self, x: Tensor, *, centre: bool = True) -> Tensor:
        """The images as float32, `(x - mean) / std` of their channel, clipped to 10."""
        x = x.float()
        if self.first:
            return super().forward(x.movedim(-3, -1), centre=centre).movedim(-1, -3)
        if self.flat:
            return super().forward(x.unsqueeze(-1), centre=centre).squeeze(-1)
        return super().forward(x, centre=centre)


def can_normalise(space: gym.Space[Any]) -> TypeGuard[gym.spaces.Box]:
    """Whether `ObsNormaliser` normalises a space: a vector of floats, or a small image of bytes."""
    if not isinstance(space, gym.spaces.Box) or is_image(space):
        return False
    return (space.dtype == np.uint8) if is_small_image(space) else space.dtype.kind == "f"


class ObsNormaliser(nn.Module):
    """Normalises every float vector and every small image of bytes in an observation; large images,
    masks and integers pass through.

    Args:
        steady: see `SteadyStats`.
    """

    def __init__(self, space: gym.Space[Any], *, steady: bool = False) -> None:
        super().__init__()
        entries = space.spaces if isinstance(space, gym.spaces.Dict) else {"": space}
        self.entries = nn.ModuleDict()
        self.names: dict[str, str] = {}
        for index, (key, entry) in enumerate(entries.items()):
            if key == ACTION_MASK or not can_normalise(entry):
                continue
            self.names[key] = f"entry_{index}"
            if is_small_image(entry):
                made: StatsModule = ChannelStats(entry)
            else:
                made = (SteadyStats if steady else StatsModule)(entry.shape or ())
            self.entries[f"entry_{index}"] = made

    def update(self, obs: Obs) -> None:
        """Adds a segment's `[T, B, ...]` observations."""
        for entry, values in self._entries(obs):
            entry.update(values)

    def summary(self, obs: Obs) -> Tensor:
        """The statistics of a segment's `[T, B, ...]` observations alone, for `merge`."""
        parts = [entry.summary(values) for entry, values in self._entries(obs)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def merge(self, summary: Tensor) -> None:
        """Adds the observations that a `summary` tells of."""
        entries = [entry for entry in self.entries.values() if isinstance(entry, StatsModule)]
        sizes = [1 + entry.mean.numel() + entry.var.numel() for entry in entries]
        for entry, part in zip(entries, torch.split(summary, sizes), strict=True):
            entry.merge(part)

    def _entries(self, obs: Obs) -> Iterator[tuple[StatsModule, Tensor]]:
        """The statistics and the `[N, *shape]` values of each entry that is normalised."""
        for key, name in self.names.items():
            values, entry = obs[key] if isinstance(obs, dict) else obs, self.entries[name]
            assert isinstance(entry, StatsModule)
            yield entry, values.flatten(0, 1)

    def forward(self, obs: Obs) -> Obs:
        """The observation with its vectors and small images normalised."""
        if isinstance(obs, dict):
            return {
                key: self.entries[self.names[key]](value) if key in self.names else value
                for key, value in obs.items()
            }
        if not self.names:
            return obs
        out: Tensor = self.entries[self.names[""]](obs)
        return out


class SteadyRewards(nn.Module):
    """Divides rewards by their size, where it is not between 0.01 and 100, and then holds still.

    The size is the root of the mean square of the rewards that are not 0, so that rare rewards of 1
    are of size 1. As in `SteadyStats`, a size in use is kept until rewards are as far off again.
    """

    count: Tensor
    square: Tensor
    size: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in (("count", 0.0), ("square", 0.0), ("size", 1.0)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def summary(self, reward: Tensor) -> Tensor:
        """The number of rewards `[N]` that are not 0, and the sum of their squares, for `merge`."""
        given = reward[reward != 0].double()
        return torch.stack((given.new_tensor(float(len(given))), given.square().sum()))

    def merge(self, summary: Tensor) -> None:
        """Adds the rewards that a `summary` tells of."""
        self.count += summary[0]
        self.square += summary[1]
        if self.count <= SETTLING:
            self.size.fill_(1.0)
        if self.count > 0:
            now = (self.square / self.count).sqrt()
            off = (now < self.size / REWARD_SIZE) | (now > self.size * REWARD_SIZE)
            self.size.copy_(torch.where(off, now, self.size))

    def forward(self, reward: Tensor) -> Tensor:
        """The rewards, divided where that is needed; the dtype stays the same."""
        return reward * self.size.reciprocal().to(reward.dtype)


class RewardNormaliser(nn.Module):
    """Scales rewards by the running standard deviation of the discounted return, without a shift.

    The running return of each environment continues across segments and restarts with each episode,
    as in Stable-Baselines3's VecNormalize. A whole segment enters the statistics before it is
    scaled.
    """

    running: Tensor

    def __init__(self, num_envs: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.returns = StatsModule(())
        self.register_buffer("running", torch.zeros(num_envs))

    def forward(self, reward: Tensor, boundary: Tensor) -> Tensor:
        """Adds a segment to the statistics and scales it.

        Args:
            reward: `[T, B]` raw rewards.
            boundary: `[T, B]` bool, true where the episode ended after the step.
        Returns:
            `[T, B]` scaled rewards, clipped to [-10, 10].
        """
        returns, self.running = self._sum(reward, boundary, self.running)
        self.returns.update(returns.flatten())
        return self.scale(reward)

    def summary(self, reward: Tensor, boundary: Tensor, columns: slice) -> Tensor:
        """Continues some environments' running returns over a segment, and tells the statistics of
        these for `returns.merge`; `forward` is this, the merge and `scale`.

        Args:
            reward: `[T, B]` raw rewards of the environments in `columns`.
        """
        returns, last = self._sum(reward, boundary, self.running[columns])
        self.running[columns] = last
        return self.returns.summary(returns.flatten())

    def scale(self, reward: Tensor) -> Tensor:
        """The rewards scaled by the statistics as they are."""
        scaled: Tensor = self.returns(reward, centre=False)
        return scaled

    def _sum(self, reward: Tensor, boundary: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        return discounted_sum(reward=reward, boundary=boundary, initial=initial, gamma=self.gamma)
