"""The replay buffer: the timeline itself, one row per step, kept for as long as it fits.

A row holds one observation and, unless it is the last of its episode, the action taken there and
its result. The final observation of an episode has its own row, so *the successor of a row is
always the next row* and every observation is stored once. Sequences and windows are rebuilt from
the rows when they are sampled; a window of 200 costs no more memory than one of 1.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.priorities import SumTree
from retain.data.stream import as_tensors, observation_rows
from retain.envs.contract import ObsArray
from retain.errors import UsageError
from retain.types import Carry, Obs, tree_leaves, tree_map

CPU = torch.device("cpu")
RESET, TERMINATED, TRUNCATED, ACTED = 1, 2, 4, 8
"""Bits of a row's flags; a row that has not ACTED holds only a final observation."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """N pieces of the timeline of S + 1 rows each; row t + 1 is the true successor of row t."""

    obs: Obs
    """`[S + 1, N, ...]` raw observations."""
    reset: Tensor
    """`[S + 1, N]` bool."""
    action: Tensor
    """`[S, N, ...]` policy actions."""
    reward: Tensor
    """`[S, N]`"""
    terminated: Tensor
    """`[S, N]` bool."""
    truncated: Tensor
    """`[S, N]` bool."""
    acted: Tensor
    """`[S, N]` bool, false where a row is only the final observation of its episode."""
    previous_action: Tensor
    """`[S + 1, N, ...]` policy actions of the previous row; meaningless at resets."""
    previous_reward: Tensor
    """`[S + 1, N]` rewards of the previous row."""
    carry: Carry | None
    """Acting's carry before the first row, leaves `[N, ...]`, if carries are stored."""
    weight: Tensor | None
    """`[N]` importance weights, with priorities."""
    slot: NDArray[np.int64]
    """`[N]` slots of the pieces, for `set_priorities`."""

    def to(self, device: torch.device) -> "Sample":
        """The same sample with every tensor on `device`."""
        if device.type == "cpu":
            return self
        moved = {
            field.name: tree_map(lambda x: x.to(device), getattr(self, field.name))
            for field in fields(self)
            if field.name != "slot" and getattr(self, field.name) is not None
        }
        return replace(self, **moved)


def check_capacity(capacity: int, *, num_envs: int, span: int, stride: int) -> None:
    """Checks that a ring always holds a piece of `span` rows that begins at a multiple of `stride`.

    Raises:
        UsageError: the capacity is too small; names the smallest sufficient one.
    """
    # A full ring holds all its rows but one complete; a piece needs the row before its first as
    # well, and the next multiple may be stride - 1 rows further on.
    least = -(-(span + stride + 1) // stride) * stride
    if capacity // num_envs < least:
        raise UsageError(
            f"buffer_size is {capacity}, too small for pieces of {span} steps from {num_envs} "
            f"environments (expected at least {least * num_envs})"
        )


class Replay:
    """Rows of B environments in rings of R = capacity / B rows each.

    Args:
        observation_space: observation space of one environment.
        event_shape, action_dtype: shape and dtype of policy actions.
        capacity: number of rows, summed over all environments.
        carry: an example `[B, ...]` of the carry that is stored at every `stride`-th row; None
            stores none.
        stride: rows between stored carries, and between the starts of sampled sequences.
        span: number of rows in the longest piece that will be sampled, including its history.
        priority_exponent: alpha; None samples uniformly.
        folder: keep the observations in memory-mapped files there instead of in RAM.
        seed: seed of the sampling.
    Raises:
        UsageError: the capacity cannot hold one piece for each environment.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        event_shape: tuple[int, ...],
        action_dtype: torch.dtype,
        *,
        num_envs: int,
        capacity: int,
        carry: Carry | None = None,
        stride: int = 1,
        span: int = 1,
        priority_exponent: float | None = None,
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        check_capacity(capacity, num_envs=num_envs, span=span, stride=stride)
        B, self.stride = num_envs, stride
        R = capacity // B // stride * stride
        self.num_envs, self.rows = B, R
        self.obs = observation_rows(observation_space, (R, B), folder)
        self.action = torch.zeros((R, B, *event_shape), dtype=action_dtype)
        self.reward = np.zeros((R, B), dtype=np.float32)
        self.flags = np.zeros((R, B), dtype=np.uint8)
        self.carry: Carry | None = None
        if carry is not None:
            self.carry = tree_map(
                lambda x: torch.zeros((R // stride, *x.shape), dtype=x.dtype), carry
            )
        self.written = np.zeros(B, dtype=np.int64)
        """`[B]` number of completed rows since the beginning. The row at `written % rows` is being
        written: it holds the current observation and waits for its action."""
        self.priority_exponent = priority_exponent
        self.tree = None if priority_exponent is None else SumTree(R // stride * B)
        self.largest_priority = 1.0
        self.random = np.random.Generator(np.random.PCG64(seed))
        self._env = np.arange(B)
        self._flat_obs = tree_map(lambda x: x.flatten(0, 1), as_tensors(self.obs, CPU))
        self._flat_action, self._action_array = self.action.flatten(0, 1), self.action.numpy()
        self._flat_reward = torch.from_numpy(self.reward).flatten()
        self._flat_flags = torch.from_numpy(self.flags).flatten()

    def __len__(self) -> int:
        """Number of readable rows, summed over all environments."""
        return int(np.minimum(self.written, self.rows - 1).sum())

    def nbytes(self) -> int:
        """Bytes of all columns."""
        columns = [*tree_leaves(as_tensors(self.obs, CPU)), self.action]
        columns += tree_leaves(self.carry) if self.carry is not None else []
        held = sum(column.numel() * column.element_size() for column in columns)
        return held + self.reward.nbytes + self.flags.nbytes

    def begin(self, obs: ObsArray, mask: NDArray[np.bool_]) -> None:
        """Writes first observations of new episodes where `mask` `[B]` is true.

        The observation already in such a row becomes the final one of the previous episode, if any.
        """
        ended = mask & (self.written > 0)
        self._close(self._env[ended])
        self._advance(ended)
        index, row = self._env[mask], (self.written % self.rows)[mask]
        self._write_obs(obs, row, index)
        self.flags[row, index] = RESET

    def _close(self, index: NDArray[np.int64]) -> None:
        """Turns the rows being written into final observations; an episode that was cut from
        outside the environment ends as truncated."""
        row = self.written[index] % self.rows
        self.flags[row, index] = 0
        last = (row - 1) % self.rows
        over = self.flags[last, index] & (TERMINATED + TRUNCATED) > 0
        self.flags[last[~over], index[~over]] |= TRUNCATED

    def store_carry(self, carry: Carry) -> None:
        """Stores the carry `[B, ...]` that acting brought to the current rows, wherever a piece can
        start."""
        if self.carry is None:
            return
        slot, index = self._carried(self.written, self._env)
        for column, leaf in zip(tree_leaves(self.carry), tree_leaves(carry), strict=True):
            column[slot, index] = leaf.to(CPU)[index]

    def add(
        self,
        action: Tensor,
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        successor: ObsArray,
    ) -> None:
        """Completes the current rows with the actions and their results, and opens the next rows
        with the true successors."""
        row = self.written % self.rows
        self._action_array[row, self._env] = action.to(CPU).numpy()
        self.reward[row, self._env] = reward
        bits = ACTED + TERMINATED * terminated + TRUNCATED * truncated
        self.flags[row, self._env] = (self.flags[row, self._env] & RESET) | bits.astype(np.uint8)
        self._advance(np.ones(self.num_envs, dtype=np.bool_))
        row = self.written % self.rows
        self._write_obs(successor, row, self._env)
        self.flags[row, self._env] = 0

    def _advance(self, mask: NDArray[np.bool_]) -> None:
        if self.tree is not None:
            self._open_slots(mask)
        self.written += mask

    def _open_slots(self, mask: NDArray[np.bool_]) -> None:
        """Gives pieces that begin in newly completed rows the largest priority."""
        row = self.written % self.rows
        here = np.flatnonzero(mask & (row % self.stride == 0))
        if len(here):
            assert self.tree is not None
            self.tree.set(row[here] // self.stride * self.num_envs + here, self.largest_priority)

    def _write_obs(self, obs: ObsArray, row: NDArray[np.int64], index: NDArray[np.int64]) -> None:
        if isinstance(obs, dict):
            for key, column in self.obs.items():  # type: ignore[union-attr]
                column[row, index] = obs[key][index]
        else:
            self.obs[row, index] = obs[index]  # type: ignore[index]

    def _usable(self, slot: NDArray[np.int64], before: int, after: int) -> NDArray[np.bool_]:
        """Whether pieces have `before` rows of history, and `after` rows from their first row
        on."""
        row, index = slot // self.num_envs * self.stride, slot % self.num_envs
        written = self.written[index]
        oldest = np.maximum(written - self.rows + 1, 0)
        first = oldest + (row - oldest) % self.rows
        # A ring that never turned over has a reset before everything: nothing is missing there.
        history = (first - oldest >= before) | (oldest == 0)
        enough = first + after <= written
        usable: NDArray[np.bool_] = history & enough
        if self.carry is None:  # a piece is about its first row alone
            usable &= (self.flags[row, index] & ACTED) > 0
        return usable

    def can_sample(self, length: int, before: int = 0) -> bool:
        """Whether there is any piece of `length` rows with `before` rows of history."""
        slot = np.arange(self._begun() * self.num_envs)
        return bool(self._usable(slot, before + 1, length).any())

    def _begun(self) -> int:
        """Number of pieces of each environment whose first row may have been written."""
        return min(int(self.written.max()) // self.stride + 1, self.rows // self.stride)

    def _draw(self, count: int, before: int, after: int) -> NDArray[np.int64]:
        """`[count]` slots of readable pieces, drawn with replacement."""
        slots: list[NDArray[np.int64]] = []
        missing = count
        high = self._begun()
        for _ in range(1000):
            if self.tree is None:
                slot = self.random.integers(0, high * self.num_envs, size=missing)
            else:
                slot = self.tree.find(self.random.random(missing) * self.tree.total)
            slots.append(slot[self._usable(slot, before, after)])
            missing -= len(slots[-1])
            if not missing:
                return np.concatenate(slots)
        raise UsageError(f"the replay holds no piece of {after} rows yet")

    def sample(self, count: int, length: int, *, before: int = 0, beta: float = 1.0) -> Sample:
        """Draws `count` pieces, uniformly or by priority.

        Args:
            length: number of rows that the losses read in a piece, not counting the last successor.
            before: number of history rows before those; a piece starts that much earlier, and rows
                before the timeline's beginning are zeros followed by a reset. Must be 0 with stored
                carries, since a piece starts where its carry is.
            beta: exponent of the importance weights.
        Raises:
            UsageError: there is no piece of that length.
        """
        slot = self._draw(count, before + 1, length)
        row, index = slot // self.num_envs * self.stride, slot % self.num_envs
        steps = np.arange(-before - 1, length + 1)[:, None]
        rows = (row + steps) % self.rows * self.num_envs + index
        flat, flags = torch.from_numpy(rows), self.flags.ravel()[rows[1:]]
        S = before + length

        def take(column: Tensor, rows: Tensor) -> Tensor:
            picked = column.index_select(0, rows.reshape(-1))
            return picked.view(*rows.shape, *column.shape[1:])

        def has(bit: int, among: NDArray[np.uint8]) -> Tensor:
            return torch.from_numpy(among & bit > 0)  # NumPy starts such small operations sooner

        action = take(self._flat_action, flat[:-1])
        reward = take(self._flat_reward, flat[:-1])
        carry = None
        if self.carry is not None:
            at = torch.from_numpy(slot // self.num_envs), torch.from_numpy(index)
            carry = tree_map(lambda column: column[at], self.carry)
        return Sample(
            obs=tree_map(lambda column: take(column, flat[1:]), self._flat_obs),
            reset=has(RESET, flags),
            action=action[1:],
            reward=reward[1:],
            terminated=has(TERMINATED, flags[:-1]),
            truncated=has(TRUNCATED, flags[:-1]),
            acted=has(ACTED, flags[:-1]),
            previous_action=action[: S + 1],
            previous_reward=reward[: S + 1],
            carry=carry,
            weight=self._weights(slot, beta) if self.tree is not None else None,
            slot=slot,
        )

    def _weights(self, slot: NDArray[np.int64], beta: float) -> Tensor:
        """(n p)^-beta, scaled so that the largest weight in the batch is 1."""
        assert self.tree is not None
        weight = self.tree.get(slot) ** -beta
        return torch.from_numpy((weight / weight.max()).astype(np.float32))

    def rows_since(self, since: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of each environment from number `since` `[B]` on that are still held, including
        those being written: their numbers and their environments, `[n]` each."""
        first = np.maximum(since, self.written - self.rows + 1)
        counts = self.written - first + 1
        index = np.repeat(self._env, counts)
        ahead = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return first[index] + ahead, index

    def read(self, number: NDArray[np.int64], index: NDArray[np.int64]) -> dict[str, Tensor]:
        """Rows by number and environment as named tensors `[n, ...]`."""
        flat = torch.from_numpy(number % self.rows * self.num_envs + index)
        named = {"action": self._flat_action[flat], "reward": self._flat_reward[flat],
                 "flags": self._flat_flags[flat]}  # fmt: skip
        named |= {f"obs.{key}": column[flat] for key, column in self._obs_columns().items()}
        if self.carry is not None:
            at = self._carried(number, index)
            for leaf, column in enumerate(tree_leaves(self.carry)):
                named[f"carry.{leaf}"] = column[at]
        return named

    def put(
        self, number: NDArray[np.int64], index: NDArray[np.int64], named: dict[str, Tensor]
    ) -> None:
        """Restores what `read` returned."""
        flat = torch.from_numpy(number % self.rows * self.num_envs + index)
        self._flat_action[flat] = named["action"]
        self._flat_reward[flat] = named["reward"]
        self._flat_flags[flat] = named["flags"]
        for key, column in self._obs_columns().items():
            column[flat] = named[f"obs.{key}"]
        if self.carry is not None:
            at = self._carried(number, index)
            for leaf, column in enumerate(tree_leaves(self.carry)):
                column[at] = named[f"carry.{leaf}"]

    def _obs_columns(self) -> dict[str, Tensor]:
        return self._flat_obs if isinstance(self._flat_obs, dict) else {"": self._flat_obs}

    def _carried(
        self, number: NDArray[np.int64], index: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """The positions of the stored carries among those rows."""
        row = number % self.rows
        here = row % self.stride == 0
        return torch.from_numpy(row[here] // self.stride), torch.from_numpy(index[here])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything except the rows: tensors, and JSON for the rest."""
        tensors = {"written": torch.from_numpy(self.written.copy())}
        if self.tree is not None:
            tensors["priorities"] = torch.from_numpy(self.tree.nodes.copy())
        return tensors, {
            "random": self.random.bit_generator.state,
            "largest_priority": self.largest_priority,
        }

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.written[:] = tensors["written"].numpy()
        if self.tree is not None:
            self.tree.nodes[:] = tensors["priorities"].numpy()
        self.random.bit_generator.state = facts["random"]
        self.largest_priority = facts["largest_priority"]

    def set_priorities(self, slot: NDArray[np.int64], error: NDArray[Any]) -> None:
        """Sets priorities |error|^alpha for the pieces in `Sample.slot`."""
        if self.tree is None or self.priority_exponent is None:
            return
        priority = (np.abs(error).astype(np.float64) + 1e-6) ** self.priority_exponent
        self.largest_priority = max(self.largest_priority, float(priority.max()))
        self.tree.set(slot, priority)
