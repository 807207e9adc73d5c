"""Running normalisation of observations, saved with the model.

The statistics change only when `update` is called, between an update and the next collection, so
acting and training on a segment see the same numbers.
"""

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from retain.nn.encoders import ACTION_MASK, is_image, is_small_image
from retain.ops import RunningStats, discounted_sum, normalise_with, running_stats, update_stats
from retain.types import Obs


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
        for name, value in update_stats(self.stats, batch)._asdict().items():
            getattr(self, name).copy_(value)

    def forward(self, x: Tensor, *, centre: bool = True) -> Tensor:
        """`(x - mean) / std`, clipped to 10; the dtype stays the same."""
        return normalise_with(self.stats, x, centre=centre)


class ObsNormaliser(nn.Module):
    """Normalises every float vector of an observation; images, masks and integers pass through."""

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        entries = space.spaces if isinstance(space, gym.spaces.Dict) else {"": space}
        self.entries = nn.ModuleDict()
        self.names: dict[str, str] = {}
        for index, (key, entry) in enumerate(entries.items()):
            floats = isinstance(entry, gym.spaces.Box) and entry.dtype.kind == "f"
            if floats and not (is_image(entry) or is_small_image(entry)) and key != ACTION_MASK:
                self.names[key] = f"entry_{index}"
                self.entries[f"entry_{index}"] = StatsModule(entry.shape or ())

    def update(self, obs: Obs) -> None:
        """Adds a segment's `[T, B, ...]` observations."""
        for key, name in self.names.items():
            values = obs[key] if isinstance(obs, dict) else obs
            self.entries[name].update(values.flatten(0, 1))  # type: ignore[operator]

    def forward(self, obs: Obs) -> Obs:
        """The observation with its float vectors normalised."""
        if isinstance(obs, dict):
            return {
                key: self.entries[self.names[key]](value) if key in self.names else value
                for key, value in obs.items()
            }
        if not self.names:
            return obs
        out: Tensor = self.entries[self.names[""]](obs)
        return out


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
        returns, self.running = discounted_sum(
            reward=reward, boundary=boundary, initial=self.running, gamma=self.gamma
        )
        self.returns.update(returns.flatten())
        scaled: Tensor = self.returns(reward, centre=False)
        return scaled
