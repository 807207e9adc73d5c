"""A group's part of the segment that is being collected: acting, and what acting leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.stream import Stream, as_tensors
from retain.envs.contract import ObsArray
from retain.errors import RetainError
from retain.memory.arrays import Floats
from retain.nn.arrays import PIECE, ArrayActor
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


@dataclass(eq=False)
class Segment:
    """A segment in which the policy's forward acts, one step at a time."""

    stream: Stream
    columns: Columns
    policy: SegmentPolicy
    chunk: int
    """Steps between stored carries."""
    device: torch.device
    action: Tensor = field(init=False)
    """`[T, B, ...]` policy actions; like the tensors below, after `close`."""
    log_prob: Tensor = field(init=False)
    value: Tensor = field(init=False)
    """`[T, B]` V."""
    previous_action: Tensor = field(init=False)
    """`[T, B, ...]`; only if the network reads it, like `previous_reward`."""
    previous_reward: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.carries: list[Carry] = []
        self.dists: list[Distribution] = []
        self.values: list[Tensor] = []
        """`[n, B]` each."""
        self.final_values: list[tuple[int, NDArray[np.intp], Tensor]] = []
        self._begin()

    def _begin(self) -> None:
        """Prepares what acting needs."""
        obs = as_tensors(self.columns.obs, torch.device("cpu"))
        resets = torch.from_numpy(self.columns.reset)
        self._each_obs = split_steps(obs)
        self._each_reset = torch.tensor_split(resets, len(resets))
        self._exploration: Tensor | None = None
        self._actions: list[Tensor] = []
        self._previous_actions: list[Tensor] = []
        self._previous_rewards: list[Tensor] = []

    def write_obs(self, t: int) -> None:
        """Writes the stream's current observation as row t."""
        rows, obs = self.columns.obs, self.stream.obs
        if isinstance(rows, dict):
            for key, row in rows.items():
                row[t] = obs[key]  # type: ignore[index]
        else:
            rows[t] = obs

    def act(self, t: int) -> Tensor:
        """The policy actions `[B, ...]` of step t."""
        policy, stream = self.policy, self.stream
        if t % self.chunk == 0:
            self.carries.append(stream.carry)
        if t == 0 or (policy.redraw_every > 0 and t % policy.redraw_every == 0):
            self._exploration = policy.head.draw_exploration(stream.num_envs, stream.generator)
        if policy.config.previous_action:
            self._previous_actions.append(stream.previous_action)
        if policy.config.previous_reward:
            self._previous_rewards.append(torch.from_numpy(stream.previous_reward))
        dist, value, stream.carry = self.forward(
            self._each_obs[t], stream.carry, self._each_reset[t]
        )
        action = policy.head.sample(dist, self._exploration, stream.generator)
        self.dists.append(dist)
        self.values.append(value)
        self._actions.append(action)
        stream.previous_action = action[0]
        return action[0]

    def cut(self, t: int, rows: NDArray[np.intp]) -> None:
        """Some environments' episodes were cut after step t: their successors, the stream's
        observation, have a value, under the carry before any reset."""
        self.final_values.append((t, rows, self.successor_value(self.now(), rows)))

    def now(self) -> Obs:
        """The stream's observation as `[1, B, ...]`."""
        obs: Any = self.stream.obs
        found: Any = tree_map(lambda x: torch.from_numpy(x).unsqueeze(0), obs)
        return found  # type: ignore[no-any-return]

    def successor_value(
        self, obs: Obs, rows: NDArray[np.intp], previous: Sequence[Tensor] | None = None
    ) -> Tensor:
        """V of some rows of `obs` `[1, B, ...]`, under the current carry; `previous` as in
        `forward`.

        The whole group is evaluated, so that a row's value does not depend on which others ended.
        """
        reset = torch.zeros(1, self.stream.num_envs, dtype=torch.bool)
        value = self.forward(obs, self.stream.carry, reset, previous)[1]
        return value[0, torch.from_numpy(rows)]

    def close(self) -> None:
        """Joins the steps."""
        self.action = torch.cat(self._actions)
        self.value = torch.cat(self.values)
        self.log_prob = type(self.dists[0]).cat(self.dists).log_prob(self.action)
        if self._previous_actions:
            self.previous_action = torch.stack(self._previous_actions)
        if self._previous_rewards:
            self.previous_reward = torch.stack(self._previous_rewards)

    def next_value(self) -> Tensor:
        """`[T, B]` V of every true successor; the carry does not advance."""
        reset = torch.from_numpy(self.stream.reset_flags).unsqueeze(0)
        last = self.forward(self.now(), self.stream.carry, reset)[1]
        following = torch.cat((self.value[1:], last))
        for t, rows, final_value in self.final_values:
            following[t, torch.from_numpy(rows)] = final_value.clone()
        return following

    def forward(
        self, obs: Obs, carry: Carry, reset: Tensor, previous: Sequence[Tensor] | None = None
    ) -> tuple[Distribution, Tensor, Carry]:
        """The policy's forward.

        Args:
            previous: `[T, B, ...]` actions and `[T, B]` rewards; None: the stream's last.
        """
        stream, config, device = self.stream, self.policy.config, self.device
        if not (config.previous_action or config.previous_reward):
            previous = ()
        elif previous is None:
            reward = torch.from_numpy(stream.previous_reward)
            previous = stream.previous_action.unsqueeze(0), reward.to(device).unsqueeze(0)
        if device.type != "cpu":
            obs = tree_map(lambda x: x.to(device), obs)
            reset = reset.to(device)
        return self.policy(self.policy.prepare(obs), carry, reset, *previous)


@dataclass(eq=False)
class ArraySegment(Segment):
    """A segment in which arrays act; the policy's forward follows, one piece of steps after
    another, and everything that is learned from is the forward's."""

    actor: ArrayActor
    noise: Floats
    """`[T, B, A]` noise of acting."""

    def _begin(self) -> None:
        T, stream = len(self.columns.reward), self.stream
        self.piece = min(self.chunk, PIECE) if self.policy.recurrent else T
        self.scores = np.empty(self.noise.shape, np.float32)
        """`[T, B, A]` logits or means that actions came from."""
        first: NDArray[Any] = stream.previous_action.numpy()
        self.acted = np.empty((T + 1, *first.shape), first.dtype)
        """`[T + 1, B, ...]` policy actions, after the last one before the segment."""
        self.acted[0] = first
        self.rewarded = np.empty((T, stream.num_envs), np.float32)
        """`[T, B]` rewards of the steps before."""
        self.cuts: list[tuple[int, NDArray[np.intp], Obs]] = []
        """Steps, rows and observations whose values the next piece gives."""
        self.done = 0
        """Steps that the forward has seen."""

    def act(self, t: int) -> Tensor:
        """See `Segment`."""
        if t == self.done + self.piece:
            self._follow(t)
        if t == self.done:
            self.actor.load(self.stream.carry)
        rows: Any = self.columns.obs
        self.rewarded[t] = self.stream.previous_reward
        chosen = self.actor.act(
            rows[t], self.columns.reset[t], self.acted[t], self.rewarded[t], self.noise[t],
            self.scores[t],
        )  # fmt: skip
        self.acted[t + 1] = chosen
        return torch.from_numpy(chosen)

    def cut(self, t: int, rows: NDArray[np.intp]) -> None:
        """See `Segment`."""
        self.cuts.append((t, rows, tree_map(torch.clone, self.now())))

    def _follow(self, end: int) -> None:
        """Runs the forward over the steps since the last piece, up to `end`, in parts that end
        where a carry is stored or an episode was cut.

        Raises:
            RetainError: actions came from other scores than the policy's.
        """
        stream, columns, recurrent = self.stream, self.columns, self.policy.recurrent
        obs: Any = as_tensors(columns.obs, torch.device("cpu"))
        reset = torch.from_numpy(columns.reset)
        previous = torch.from_numpy(self.acted), torch.from_numpy(self.rewarded)
        edges = {self.done, end}
        if recurrent:
            edges |= {t for t in range(self.done, end) if t % self.chunk == 0}
            edges |= {t + 1 for t, _, _ in self.cuts}
        for first, last in pairwise(sorted(edges)):
            stored = range(first, last) if not recurrent else (first,)
            self.carries += [stream.carry for t in stored if t % self.chunk == 0]
            part = slice(first, last)
            dist, value, stream.carry = self.forward(
                tree_map(lambda x, part=part: x[part], obs),
                stream.carry,
                reset[part],
                [x[part] for x in previous],
            )
            if not self.actor.agrees(self.scores[part], dist):
                memory = type(self.policy.torsos[0].memory).__name__
                raise RetainError(
                    f"actions were chosen by other scores than the policy's forward gives: "
                    f"{memory}.array_step must equal {memory}.forward (an error in retain, if the "
                    "memory is its own: please report it)"
                )
            self.dists.append(dist)
            self.values.append(value)
            for t, rows, final in self.cuts:
                if first <= t < last:
                    self.final_values.append((t, rows, self._value_after(t, rows, final)))
        self.cuts.clear()
        self.done = end

    def _value_after(self, t: int, rows: NDArray[np.intp], final: Obs) -> Tensor:
        """V of some rows of the observation after step t, under the current carry."""
        last = (
            torch.from_numpy(self.acted[t + 1 : t + 2]),
            torch.from_numpy(self.columns.reward[t : t + 1]),
        )
        return self.successor_value(final, rows, last)

    def close(self) -> None:
        """See `Segment`."""
        self._follow(len(self.rewarded))
        self.action = torch.from_numpy(self.acted[1:])
        self.stream.previous_action = self.action[-1]
        self.value = torch.cat(self.values)
        self.log_prob = type(self.dists[0]).cat(self.dists).log_prob(self.action)
        if self.policy.config.previous_action:
            self.previous_action = torch.from_numpy(self.acted[:-1])
        if self.policy.config.previous_reward:
            self.previous_reward = torch.from_numpy(self.rewarded)
