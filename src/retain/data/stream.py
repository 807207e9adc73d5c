"""The state of a batch of environments between two steps, whatever the steps are used for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.episodes import Episodes, Statistics
from retain.data.incidents import Incidents
from retain.data.shards import ONE_SHARD, Layout, shard_seed
from retain.envs.contract import Backend, EnvStep, ObsArray
from retain.envs.history import History
from retain.envs.options import PLAIN, EnvOptions
from retain.errors import CheckpointError
from retain.types import (
    Carry,
    Obs,
    restore_generator,
    tree_leaves,
    tree_map,
    under_prefix,
    with_prefix,
)


class Remembers(Protocol):
    """The part of a policy that a stream needs: what the policy carries from step to step."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one policy action."""

    @property
    def action_dtype(self) -> torch.dtype:
        """Dtype of policy actions."""

    def initial_carry(self, batch_size: int) -> Carry:
        """The carry before an episode's first observation."""


def as_tensors(obs: ObsArray, device: torch.device) -> Obs:
    """Converts arrays to tensors, without a copy on the CPU."""
    return tree_map(lambda x: torch.from_numpy(x).to(device), obs)  # type: ignore[return-value]


def observation_rows(
    space: gym.Space[Any], lead: tuple[int, ...], folder: Path | None = None, name: str = "obs"
) -> ObsArray:
    """Zeros `[*lead, ...]` for observations of one environment's space, in RAM or in memory-mapped
    files in `folder`."""
    if isinstance(space, gym.spaces.Dict):
        return {
            key: observation_rows(sub, lead, folder, f"{name}.{number}")  # type: ignore[misc]
            for number, (key, sub) in enumerate(space.spaces.items())
        }
    shape = (*lead, *(space.shape or ()))
    if folder is None:
        return np.zeros(shape, dtype=space.dtype)
    folder.mkdir(parents=True, exist_ok=True)
    mapped: NDArray[Any] = np.memmap(
        folder / f"{name}.dat", dtype=np.dtype(space.dtype), mode="w+", shape=shape
    )
    return mapped


@dataclass
class Returned:
    """What happened to the episodes of a backend that was lent."""

    differs: NDArray[np.bool_] | None = None
    """`[B]` true where an episode was cut, because playing it back reached another observation."""


class Stream:
    """The environments of one backend and everything that a policy carries through them.

    The stream holds the state between two steps (carry, reset flags, last observation, episode
    counters); the backend's history holds the data to play back the current episodes.

    Args:
        seed: the run's seed; every episode's own seed derives from it.
        first: the run's number of the backend's first environment.
        options: how rewards are scaled and clipped before anything learns from them.
        generator: the origin of the noise of acting, which the streams of a shard share.
        statistics: receives finished episodes; shared by the streams of a run.
        incidents: receives faults; shared by the streams of a run.
    """

    def __init__(
        self,
        backend: Backend,
        remembers: Remembers,
        *,
        seed: int,
        device: torch.device,
        generator: torch.Generator,
        first: int = 0,
        options: EnvOptions = PLAIN,
        statistics: Statistics | None = None,
        incidents: Incidents | None = None,
    ) -> None:
        self.backend, self.device, self.options = backend, device, options
        self.generator = generator
        self._shapes_reward = options.shapes_reward
        self.num_envs = backend.num_envs
        self.columns = slice(first, first + self.num_envs)
        """The columns of these environments among all of the run."""
        self.episodes = Episodes(backend, seed, first=first, statistics=statistics)
        self.incidents = incidents or Incidents()
        self.carry: Carry = tree_map(
            lambda leaf: leaf.to(self.device), remembers.initial_carry(self.num_envs)
        )
        self.previous_action = torch.zeros(
            (self.num_envs, *remembers.event_shape),
            dtype=remembers.action_dtype,
            device=self.device,
        )
        self.previous_reward = np.zeros(self.num_envs, dtype=np.float32)
        self.reset_flags = np.ones(self.num_envs, dtype=np.bool_)
        self.obs: ObsArray | None = None

    def start(self) -> bool:
        """Begins the first episode of every environment, unless this has been done."""
        if self.obs is not None:
            return False
        self.obs = self.episodes.begin(np.ones(self.num_envs, dtype=np.bool_))
        return True

    def receive(self) -> EnvStep:
        """The backend's response to the last action; notes faults."""
        step = self.backend.receive()
        self.episodes.record(step.reward)
        if self.backend.faults:
            self.incidents.note(self.backend, self.episodes)
        if not self._shapes_reward:
            return step
        return step._replace(reward=self.options.learned_reward(step.reward))

    def restart(self, ended: NDArray[np.bool_]) -> None:
        """Closes the episodes that `ended` `[B]` and begins the next ones there."""
        self.episodes.finish(ended)
        self.incidents.ended(self.episodes.index[ended])
        self.obs = self.episodes.begin(ended)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state between two steps: tensors, and JSON for the rest."""
        tensors = {
            "previous_action": self.previous_action,
            "previous_reward": torch.from_numpy(self.previous_reward),
            "reset_flags": torch.from_numpy(self.reset_flags),
        }
        tensors |= {f"carry.{i}": leaf for i, leaf in enumerate(tree_leaves(self.carry))}
        if self.obs is not None:
            entries = self.obs if isinstance(self.obs, dict) else {"": self.obs}
            tensors |= {f"obs.{key}": torch.from_numpy(x) for key, x in entries.items()}
        episode_tensors, facts = self.episodes.state()
        tensors |= with_prefix("episodes.", episode_tensors)
        return tensors, {"episodes": facts}

    def restore(
        self, tensors: dict[str, Tensor], facts: dict[str, Any], play: bool = True
    ) -> NDArray[np.bool_]:
        """Restores what `state` returned and plays back every current episode to where it was.

        Args:
            play: if false, these episodes are over, and new ones begin.
        Returns:
            `[B]` true where an environment did not return to its saved observation, so it is not
            deterministic given its seed. Its episode is cut there and a new one begins.
        Raises:
            CheckpointError: another configuration saved the state.
        """
        now: list[Any] = [self.previous_action, self.previous_reward, self.reset_flags]
        before = [tensors[name] for name in ("previous_action", "previous_reward", "reset_flags")]
        leaves = tree_leaves(self.carry)
        now += leaves
        before += [tensors[f"carry.{number}"] for number in range(len(leaves))]
        if [tuple(x.shape) for x in now] != [tuple(x.shape) for x in before]:
            raise CheckpointError("the saved state does not fit the policy")
        self.previous_action = before[0].to(self.device)
        self.previous_reward, self.reset_flags = before[1].numpy(), before[2].numpy()
        carried = iter(before[3:])
        self.carry = tree_map(lambda _: next(carried).to(self.device), self.carry)
        differs = np.zeros(self.num_envs, dtype=np.bool_)
        if "episodes.number" not in tensors or (tensors["episodes.number"] < 0).all():
            return differs
        inside = under_prefix("episodes.", tensors)
        if not play:
            self.episodes.count_from(inside, facts["episodes"])
            self.reset_flags[:] = True
            return differs
        saved = {k.removeprefix("obs."): x.numpy() for k, x in tensors.items() if k[:4] == "obs."}
        return self._come_back(self.episodes.restore(inside, facts["episodes"]), saved)

    def _come_back(self, obs: ObsArray, saved: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Continues the episodes that were played back; cuts those that reached other observations
        than the saved ones."""
        self.obs = obs
        differs = np.full(self.num_envs, not self.backend.plays_back)
        for key, now in (obs if isinstance(obs, dict) else {"": obs}).items():
            same = now == saved[key]
            differs |= ~same.reshape(self.num_envs, -1).all(axis=1)
        if differs.any():
            self.obs = self.episodes.begin(differs)
            self.reset_flags = self.reset_flags | differs
        return differs

    def move(self, backend: Backend, options: EnvOptions) -> None:
        """Continues in other environments; the current episodes end here, and new ones begin."""
        self.backend = self.episodes.backend = backend
        self.options, self._shapes_reward = options, options.shapes_reward
        self.reset_flags = np.ones(self.num_envs, dtype=np.bool_)
        self.obs = None

    @contextmanager
    def lent(self) -> Iterator[Returned]:
        """Lends the backend for other episodes inside the block; afterwards the current ones are
        played back to where they were."""
        backend, returned = self.backend, Returned()
        history, faults = backend.history, list(backend.faults)
        obs = self.obs if isinstance(self.obs, dict) or self.obs is None else {"": self.obs}
        saved = None if obs is None else {key: x.copy() for key, x in obs.items()}
        backend.history = History(self.num_envs)
        try:
            yield returned
        finally:
            backend.history, backend.faults = history, faults
            backend.continuing = np.zeros(self.num_envs, dtype=np.bool_)
            if saved is not None:
                returned.differs = self._come_back(backend.rewind(), saved)


class Driver:
    """Acts in a run's environments: the streams of all groups, and the noise of acting.

    Args:
        backends: one backend for each group of environments; with several shards, those of the
            first of this process's shards come first.
        seed: the run's seed.
        options: see `Stream`.
        shards: the shards that this process executes.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        remembers: Remembers,
        *,
        seed: int,
        options: EnvOptions = PLAIN,
        device: torch.device | None = None,
        shards: Layout = ONE_SHARD,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.shards = shards
        self.generators = {
            shard: torch.Generator(self.device).manual_seed(shard_seed(seed, shard))
            for shard in shards.own
        }
        """The noise of acting, by shard."""
        self.statistics, self.incidents = Statistics(), Incidents()
        self.num_envs = sum(backend.num_envs for backend in backends)
        """Environments of this process."""
        each = self.num_envs // len(shards.own)
        self.all_envs = each * shards.count
        """Environments of the whole run."""
        self.groups = len(backends) // len(shards.own)
        """Groups in a shard."""
        self.streams: list[Stream] = []
        first = each * shards.own.start
        for number, backend in enumerate(backends):
            self.streams.append(
                Stream(
                    backend,
                    remembers,
                    seed=seed,
                    device=self.device,
                    generator=self.generators[shards.own[number // self.groups]],
                    first=first,
                    options=options,
                    statistics=self.statistics,
                    incidents=self.incidents,
                )
            )
            first += backend.num_envs
        self.steps = 0
        """Number of steps, summed over all environments of the run."""
        self.elsewhere: list[NDArray[Any]] = []
        """`[n, B', ...]` actions of other ranks' environments since the last row, for a recorder;
        the ranks' order."""

    @property
    def generator(self) -> torch.Generator:
        """The noise of acting, of this process's first shard."""
        return self.streams[0].generator

    def by_shard(self, parts: Sequence[Any]) -> list[Sequence[Any]]:
        """One entry per stream, as one list per shard."""
        return [parts[n : n + self.groups] for n in range(0, len(parts), self.groups)]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state between two segments: tensors, and JSON for the rest. The entries of this
        process's shards have names of their own, so that ranks can put theirs together."""
        tensors = {self._noise(s): g.get_state() for s, g in self.generators.items()}
        facts: dict[str, Any] = {"steps": self.steps, "statistics": self.statistics.state()}
        for number, stream in self._numbered():
            inside, facts[f"stream.{number}"] = stream.state()
            tensors |= with_prefix(f"stream.{number}.", inside)
        return {k: v.detach().clone() for k, v in tensors.items()}, facts

    def restore(
        self, tensors: dict[str, Tensor], facts: dict[str, Any], play: bool = True
    ) -> NDArray[np.bool_]:
        """Restores what `state` returned, of this process's shards; see `Stream.restore`."""
        for shard, generator in self.generators.items():
            restore_generator(generator, tensors[self._noise(shard)])
        self.steps = facts["steps"]
        self.statistics.restore(facts["statistics"])
        differs = np.concatenate(
            [
                stream.restore(under_prefix(f"stream.{n}.", tensors), facts[f"stream.{n}"], play)
                for n, stream in self._numbered()
            ]
        )
        self._cut(differs)
        return differs

    def _noise(self, shard: int) -> str:
        return f"generator.{shard}" if self.shards.several else "generator"

    def _numbered(self) -> Iterator[tuple[int, Stream]]:
        """The streams with their numbers among all of the run."""
        return enumerate(self.streams, self.shards.own.start * self.groups)

    def _cut(self, differs: NDArray[np.bool_]) -> None:
        """Notes that episodes which did not replay to where they were have ended, and new ones
        begun."""

    def move(self, backends: Sequence[Backend], options: EnvOptions) -> None:
        """Continues in other environments; see `Stream.move`."""
        for stream, backend in zip(self.streams, backends, strict=True):
            stream.move(backend, options)

    @contextmanager
    def lent(self) -> Iterator[Backend]:
        """Lends the first backend for other episodes; see `Stream.lent`."""
        with self.streams[0].lent() as returned:
            yield self.streams[0].backend
        if returned.differs is not None:
            self._cut(returned.differs)
