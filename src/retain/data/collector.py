"""Acts with a policy in environments, one explicit step at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retain.data.rollout import Rollout
from retain.data.segment import ArraySegment, Columns, Segment
from retain.data.shards import ONE_SHARD, Layout
from retain.data.stream import Driver, Stream, observation_rows
from retain.envs.contract import Backend
from retain.envs.options import PLAIN, EnvOptions
from retain.memory.arrays import Floats
from retain.nn.arrays import ArrayActor
from retain.nn.policy import SegmentPolicy
from retain.types import tree_map


class Collector(Driver):
    """Steps B environments with a policy and cuts the stream into segments.

    With several groups of environments the policy acts on one while the others step.

    Args:
        chunk: steps between stored carries; must divide every segment's length.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        policy: SegmentPolicy,
        *,
        seed: int,
        options: EnvOptions = PLAIN,
        chunk: int,
        device: torch.device | None = None,
        shards: Layout = ONE_SHARD,
    ) -> None:
        super().__init__(backends, policy, seed=seed, options=options, device=device, shards=shards)
        self.policy, self.chunk = policy, chunk
        self.space = backends[0].observation_space

    def collect(self, num_steps: int) -> Rollout:
        """Collects the next segment: `num_steps` steps of every environment, `[T, B, ...]`; of this
        process's first shard, if there are several."""
        return self.collect_shards(num_steps)[0]

    def collect_shards(self, num_steps: int) -> list[Rollout]:
        """Collects the next segment of every shard of this process."""
        T = num_steps
        for stream in self.streams:
            stream.start()
        shards = [self._begun(T, streams) for streams in self.by_shard(self.streams)]
        segments = [segment for _, own in shards for segment in own]
        with torch.inference_mode():
            for t in range(T):
                for segment in segments:
                    if t:
                        self._receive(segment, t - 1)
                    self._send(segment, t)
            for segment in segments:
                self._receive(segment, T - 1)
                segment.close()
            self.steps += T * self.all_envs
            return [
                self._rollout(columns, own, [segment.next_value() for segment in own])
                for columns, own in shards
            ]

    def _begun(self, T: int, streams: Sequence[Stream]) -> tuple[Columns, list[Segment]]:
        """A shard's columns, still empty, and its groups' parts of them."""
        first, last = streams[0].columns.start, streams[-1].columns.stop
        B = last - first
        columns = Columns(
            observation_rows(self.space, (T, B)),
            np.zeros((T, B), np.float32),
            *(np.zeros((T, B), np.bool_) for _ in range(3)),
        )

        def own(stream: Stream) -> slice:
            return slice(stream.columns.start - first, stream.columns.stop - first)

        made: list[Segment] = []
        noise: Floats | None = None
        for stream in streams:
            shared = stream, columns.of(own(stream)), self.policy, self.chunk, self.device
            actor = ArrayActor.of(self.policy, self.space, stream.num_envs)
            if actor is None:
                made.append(Segment(*shared))
                continue
            if noise is None:
                noise = actor.draw(T, B, stream.generator)
            made.append(ArraySegment(*shared, actor, noise[:, own(stream)]))
        return columns, made

    def _send(self, segment: Segment, t: int) -> None:
        """Acts on a group's observation and starts its environments' step."""
        segment.write_obs(t)
        segment.columns.reset[t] = segment.stream.reset_flags
        segment.stream.backend.send(self.policy.coder.to_env(segment.act(t)))

    def _receive(self, segment: Segment, t: int) -> None:
        """Takes a group's response to step t, and resets ended environments."""
        stream, columns = segment.stream, segment.columns
        stream.obs, reward, terminated, truncated = stream.receive()
        columns.reward[t], columns.terminated[t] = reward, terminated
        columns.truncated[t] = truncated
        stream.previous_reward = columns.reward[t]
        ended = terminated | truncated
        if ended.any():
            cut = truncated & ~terminated
            if cut.any():
                segment.cut(t, np.flatnonzero(cut))
            stream.restart(ended)
        stream.reset_flags = ended

    def _rollout(
        self, columns: Columns, segments: list[Segment], next_values: list[Tensor]
    ) -> Rollout:
        config, device = self.policy.config, self.device

        def finished(x: Tensor) -> Tensor:
            return x.to(device)

        def over_groups(parts: list[Tensor]) -> Tensor:
            """Joins groups side by side into a tensor that is not an inference tensor."""
            return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0].clone()

        carry_out: Any = [s.stream.carry for s in segments]
        with torch.inference_mode(False):
            arrays: Any = tuple(columns)
            obs, reward, reset, terminated, truncated = tree_map(torch.from_numpy, arrays)
            return Rollout(
                obs=tree_map(finished, obs),
                action=over_groups([s.action for s in segments]),
                log_prob=over_groups([s.log_prob for s in segments]),
                value=over_groups([s.value for s in segments]),
                reward=finished(reward),
                reset=finished(reset),
                terminated=finished(terminated),
                truncated=finished(truncated),
                next_value=over_groups(next_values),
                carries=tuple(
                    tree_map(_joined, *each)
                    for each in zip(*(s.carries for s in segments), strict=True)
                ),
                carry_out=tree_map(_joined, *carry_out),
                previous_action=(
                    over_groups([s.previous_action for s in segments])
                    if config.previous_action
                    else None
                ),
                previous_reward=(
                    finished(over_groups([s.previous_reward for s in segments]))
                    if config.previous_reward
                    else None
                ),
            )


def _joined(*leaves: Tensor) -> Tensor:
    """Joins the groups' carries into one."""
    return torch.cat(leaves) if len(leaves) > 1 else leaves[0].clone()
