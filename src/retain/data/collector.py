"""Acts with a policy in environments, one explicit step at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.rollout import Rollout
from retain.data.shards import ONE_SHARD, Layout
from retain.data.stream import Driver, Stream, as_tensors, observation_rows
from retain.envs.contract import Backend, ObsArray
from retain.envs.options import PLAIN, EnvOptions
from retain.errors import RetainError
from retain.nn.arrays import ArrayActor, Floats
from retain.nn.distributions import Distribution
from retain.nn.policy import SegmentPolicy
from retain.types import Carry, Obs, tree_map


class Columns(NamedTuple):
    """The environments' responses in a segment, filled in place, one row per step."""

    obs: ObsArray
    reward: NDArray[np.float32]
    reset: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    def of(self, columns: slice) -> "Columns":
        """Views of some environments' columns."""
        parts: Any = tree_map(lambda x: x[:, columns], tuple(self))
        return Columns(*parts)


def split_steps(obs: Obs) -> Sequence[Obs]:
    """`[T, B, ...]` as T views `[1, B, ...]`."""
    if isinstance(obs, dict):
        columns = {key: torch.tensor_split(x, len(x)) for key, x in obs.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return torch.tensor_split(obs, len(obs))


class Segment:
    """A group's part of the segment that is being collected.

    Args:
        arrays: acts in place of the policy, if it can.
        noise: `[T, B, A]` noise for `arrays`.
    """

    def __init__(
        self, stream: Stream, columns: Columns, arrays: ArrayActor | None, noise: Floats | None
    ) -> None:
        self.stream, self.columns, self.arrays = stream, columns, arrays
        steps = len(columns.reward)
        self.each_obs = split_steps(as_tensors(columns.obs, torch.device("cpu")))
        self.each_reset = torch.tensor_split(torch.from_numpy(columns.reset), steps)
        self.exploration: Tensor | None = None
        self.actions: list[Tensor] = []
        self.dists: list[Distribution] = []
        self.values: list[Tensor] = []
        self.carries: list[Carry] = []
        self.previous_actions: list[Tensor] = []
        self.previous_rewards: list[Tensor] = []
        self.final_values: list[tuple[int, NDArray[np.intp], Tensor]] = []
        if arrays is not None and noise is not None:
            self.noise, self.taken = noise, list[NDArray[Any]]()
            self.scores = np.empty(noise.shape, np.float32)
            """`[T, B, A]` logits or means that actions came from."""

    def write_obs(self, t: int) -> None:
        """Writes the stream's current observation as row t."""
        rows, obs = self.columns.obs, self.stream.obs
        if isinstance(rows, dict):
            for key, row in rows.items():
                row[t] = obs[key]  # type: ignore[index]
        else:
            rows[t] = obs

    def choose(self, t: int) -> NDArray[Any]:
        """The actions of step t, by arrays."""
        assert self.arrays is not None
        rows: Any = self.columns.obs
        chosen = self.arrays.act(rows[t], self.noise[t], self.scores[t])
        self.taken.append(chosen)
        return chosen

    def close(self, policy: SegmentPolicy) -> None:
        """Joins the steps: actions, their log-probabilities and values.

        Raises:
            RetainError: actions came from other scores than the policy's.
        """
        if self.arrays is None:
            dist = type(self.dists[0]).cat(self.dists)
            self.action, self.value = torch.cat(self.actions), torch.cat(self.values)
        else:
            self.action = torch.from_numpy(np.stack(self.taken))
            self.stream.previous_action = self.action[-1]
            obs = as_tensors(self.columns.obs, torch.device("cpu"))
            reset = torch.from_numpy(self.columns.reset)
            dist, self.value, _ = policy(policy.prepare(obs), self.stream.carry, reset)
            if not self.arrays.agrees(self.scores, dist):
                raise RetainError(
                    "actions were chosen by other scores than the policy's forward gives; this is "
                    "an error in retain, or in this machine's NumPy: please report it"
                )
        self.log_prob = dist.log_prob(self.action)

    def next_value(self, last: Tensor) -> Tensor:
        """`[T, B]` V of every true successor, given V of the last one `[1, B]`."""
        following = torch.cat((self.value[1:], last.clone()))
        for t, rows, final_value in self.final_values:
            following[t, torch.from_numpy(rows)] = final_value.clone()
        return following


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
                segment.close(self.policy)
            self.steps += T * self.all_envs
            return [
                self._rollout(columns, own, [s.next_value(self._last_value(s.stream)) for s in own])
                for columns, own in shards
            ]

    def _begun(self, T: int, streams: Sequence[Stream]) -> tuple[Columns, list[Segment]]:
        """A shard's columns, still empty, and its groups' parts of them."""
        first, last = streams[0].columns.start, streams[-1].columns.stop
        B = last - first
        arrays = [ArrayActor.of(self.policy, self.space, stream.num_envs) for stream in streams]
        noise = None if arrays[0] is None else arrays[0].draw(T, B, streams[0].generator)
        columns = Columns(
            observation_rows(self.space, (T, B)),
            np.zeros((T, B), np.float32),
            *(np.zeros((T, B), np.bool_) for _ in range(3)),
        )

        def own(stream: Stream) -> slice:
            return slice(stream.columns.start - first, stream.columns.stop - first)

        return columns, [
            Segment(
                stream,
                columns.of(own(stream)),
                acts,
                None if noise is None else noise[:, own(stream)],
            )
            for stream, acts in zip(streams, arrays, strict=True)
        ]

    def _send(self, segment: Segment, t: int) -> None:
        """Acts on a group's observation and starts its environments' step."""
        policy, stream = self.policy, segment.stream
        config = policy.config
        segment.write_obs(t)
        segment.columns.reset[t] = stream.reset_flags
        if t % self.chunk == 0:
            segment.carries.append(stream.carry)
        if segment.arrays is not None:
            chosen = segment.choose(t)
            stream.backend.send(policy.coder.to_env(torch.from_numpy(chosen)))
            return
        if t == 0 or (policy.redraw_every > 0 and t % policy.redraw_every == 0):
            segment.exploration = policy.head.draw_exploration(stream.num_envs, stream.generator)
        if config.previous_action:
            segment.previous_actions.append(stream.previous_action)
        if config.previous_reward:
            segment.previous_rewards.append(torch.from_numpy(stream.previous_reward))
        dist, value, stream.carry = self._forward(
            stream, segment.each_obs[t], segment.each_reset[t]
        )
        action = policy.head.sample(dist, segment.exploration, stream.generator)
        segment.dists.append(dist)
        segment.values.append(value)
        segment.actions.append(action)
        stream.previous_action = action[0]
        stream.backend.send(policy.coder.to_env(action[0]))

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
                rows = np.flatnonzero(cut)
                segment.final_values.append((t, rows, self._successor_value(stream, rows)))
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
                    over_groups([torch.stack(s.previous_actions) for s in segments])
                    if config.previous_action
                    else None
                ),
                previous_reward=(
                    finished(over_groups([torch.stack(s.previous_rewards) for s in segments]))
                    if config.previous_reward
                    else None
                ),
            )

    def _forward(self, stream: Stream, obs: Obs, reset: Tensor) -> Any:
        """The policy's forward with T = 1 on the current carry."""
        previous: list[Tensor] = []
        config = self.policy.config
        if config.previous_action or config.previous_reward:
            previous = [
                stream.previous_action.unsqueeze(0),
                torch.from_numpy(stream.previous_reward).to(self.device).unsqueeze(0),
            ]
        if self.device.type != "cpu":
            obs = tree_map(lambda x: x.to(self.device), obs)
            reset = reset.to(self.device)
        return self.policy(self.policy.prepare(obs), stream.carry, reset, *previous)

    def _successor_value(self, stream: Stream, rows: NDArray[np.intp]) -> Tensor:
        """V of truncated episodes' final observations, `[rows]`, under the carry before any reset.

        The whole group is evaluated, so that a row's value does not depend on which others ended.
        """
        _, value, _ = self._forward(
            stream,
            tree_map(lambda x: torch.from_numpy(x).unsqueeze(0), stream.obs),  # type: ignore[arg-type]
            torch.zeros(1, stream.num_envs, dtype=torch.bool),
        )
        result: Tensor = value[0, torch.from_numpy(rows)]
        return result

    def _last_value(self, stream: Stream) -> Tensor:
        """V of the observation after the segment, `[1, B]`; the carry does not advance."""
        _, value, _ = self._forward(
            stream,
            tree_map(lambda x: torch.from_numpy(x).unsqueeze(0), stream.obs),  # type: ignore[arg-type]
            torch.from_numpy(stream.reset_flags).unsqueeze(0),
        )
        result: Tensor = value
        return result


def _joined(*leaves: Tensor) -> Tensor:
    """Joins the groups' carries into one."""
    return torch.cat(leaves) if len(leaves) > 1 else leaves[0].clone()
