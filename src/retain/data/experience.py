"""Acts into a replay, one step of every environment at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.replay import ACTED, Replay
from retain.data.shards import ONE_SHARD, Layout
from retain.data.stream import Driver, Stream, as_tensors
from retain.envs.contract import Backend
from retain.envs.options import PLAIN, EnvOptions
from retain.nn.q_networks import OffPolicyNets
from retain.types import Obs, tree_map, under_prefix


class Experience(Driver):
    """Steps environments, one group in each shard, and writes the timeline into the shard's replay.

    Args:
        backends, replays: one for each of this process's shards.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        nets: OffPolicyNets,
        replays: Sequence[Replay],
        *,
        seed: int,
        options: EnvOptions = PLAIN,
        device: torch.device | None = None,
        shards: Layout = ONE_SHARD,
    ) -> None:
        super().__init__(backends, nets, seed=seed, options=options, device=device, shards=shards)
        self.nets, self.replays = nets, replays

    @property
    def replay(self) -> Replay:
        """The replay of this process's first shard."""
        return self.replays[0]

    @property
    def stream(self) -> Stream:
        """The stream of this process's first shard."""
        return self.streams[0]

    def step(self, *, scale: float, random: bool) -> None:
        """Takes one step in every environment.

        Args:
            scale: amount of exploration; see `Policy.act`.
            random: take uniform actions instead; the memory still reads the observations.
        """
        actions = [
            self._act(stream, replay, scale=scale, random=random)
            for stream, replay in zip(self.streams, self.replays, strict=True)
        ]
        for stream, replay, action in zip(self.streams, self.replays, actions, strict=True):
            self._receive(stream, replay, action)
        self.steps += self.all_envs

    def _act(self, stream: Stream, replay: Replay, *, scale: float, random: bool) -> Tensor:
        """Acts on a shard's observation and starts its environments' step; returns the action."""
        if stream.start():
            assert stream.obs is not None
            replay.begin(stream.obs, np.ones(stream.num_envs, dtype=np.bool_))
        assert stream.obs is not None
        with torch.inference_mode():
            replay.store_carry(stream.carry)
            obs = tree_map(lambda x: x.unsqueeze(0), as_tensors(stream.obs, self.device))
            prepared = self.nets.prepare(obs)
            action, stream.carry = self.nets.act(
                prepared,
                stream.carry,
                torch.from_numpy(stream.reset_flags).to(self.device).unsqueeze(0),
                stream.previous_action.unsqueeze(0),
                torch.from_numpy(stream.previous_reward).to(self.device).unsqueeze(0),
                scale=scale,
                source=stream.generator,
            )
            if random:
                action = self.nets.random(prepared, stream.generator)
            env_action = self.nets.coder.to_env(action)
        stream.backend.send(env_action)
        return action

    def _receive(self, stream: Stream, replay: Replay, action: Tensor) -> None:
        """Takes a shard's response, and resets ended environments."""
        stream.obs, reward, terminated, truncated = stream.receive()
        replay.add(action, reward, terminated, truncated, stream.obs)
        stream.previous_action = action
        stream.previous_reward = reward.astype(np.float32)
        stream.reset_flags = terminated | truncated
        if stream.reset_flags.any():
            stream.restart(stream.reset_flags)
            replay.begin(stream.obs, stream.reset_flags)

    def as_step(self, columns: dict[str, Tensor]) -> Obs:
        """The observations among a replay's columns, as one step of many environments."""
        columns = under_prefix("obs.", columns)
        obs = {key: x.unsqueeze(0).to(self.device) for key, x in columns.items()}
        return obs[""] if list(obs) == [""] else obs

    def as_rewards(self, columns: dict[str, Tensor]) -> Tensor:
        """`[n]` the rewards among a replay's columns."""
        acted = (columns["flags"] & ACTED) > 0
        return columns["reward"][acted].to(self.device)

    def _cut(self, differs: NDArray[np.bool_]) -> None:
        """Ends these episodes in the replay too."""
        for stream, replay in zip(self.streams, self.replays, strict=True):
            first = stream.columns.start - self.streams[0].columns.start
            own = differs[first : first + stream.num_envs]
            if own.any():
                assert stream.obs is not None
                replay.begin(stream.obs, own)
