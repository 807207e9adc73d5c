"""A segment of the timeline, and how it is cut into sequences for training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from retain.errors import UsageError
from retain.types import Carry, Obs, tree_leaves, tree_like, tree_map, under_prefix


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """N sequences of L steps that an update trains on; a minibatch is an index into N.

    Shapes are `[L, N, ...]`; the carry is what acting left before each sequence's first step.
    """

    obs: Obs
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    target: Tensor
    reset: Tensor
    carry: Carry
    """The carries, leaves `[N, ...]`."""
    previous_action: Tensor | None = None
    previous_reward: Tensor | None = None
    moments: tuple[Tensor, Tensor] | None = None
    """Mean and standard deviation of the advantages in the whole minibatch, if this is only one
    shard's part of it."""

    def __len__(self) -> int:
        return self.reset.shape[1]

    def _map(self, over_time: Any, over_carry: Any) -> Self:
        changed: dict[str, Any] = {}
        for field in fields(self):
            entry = getattr(self, field.name)
            if entry is not None:
                function = over_carry if field.name == "carry" else over_time
                changed[field.name] = tree_map(function, entry)
        return replace(self, **changed)

    def index(self, index: Tensor) -> Self:
        """The sequences at `index` `[M]`, in that order."""
        return self._map(lambda x: x.index_select(1, index), lambda x: x.index_select(0, index))

    def order(self, size: int, generator: torch.Generator) -> Tensor | None:
        """A fresh random order for minibatches of `size` sequences; None if one holds them all."""
        total = len(self)
        if size >= total:
            return None
        return torch.randperm(total, generator=generator, device=self.reset.device)

    def minibatches(self, size: int, order: Tensor | None) -> Iterator[Self]:
        """Yields all sequences once in that order, `size` at a time (the last may be smaller)."""
        if order is None:
            yield self
            return
        total, shuffled = len(self), self.index(order)
        for first in range(0, total, size):
            count = min(size, total - first)
            yield shuffled._map(
                lambda x, a=first, n=count: x.narrow(1, a, n),
                lambda x, a=first, n=count: x.narrow(0, a, n),
            )


@dataclass(frozen=True, kw_only=True)
class RewardedSequences(Sequences):
    """Sequences for a loss that computes its own targets; fields as in `Rollout`."""

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_value: Tensor


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A segment of T steps of B environments, `[T, B, ...]`, as acting saw it."""

    obs: Obs
    """Raw observations, in the environment's dtype."""
    action: Tensor
    """Policy actions: the distribution's samples, before clipping or squashing."""
    log_prob: Tensor
    value: Tensor
    reward: Tensor
    reset: Tensor
    """Bool, true where obs[t] is the first of its episode."""
    terminated: Tensor
    truncated: Tensor
    next_value: Tensor
    """V of the true successor under the carry before any reset; arbitrary where terminated."""
    carries: tuple[Carry, ...]
    """The carry before steps 0, L, 2L, ..., where L is the sequence length."""
    carry_out: Carry
    """The carry after the last step."""
    previous_action: Tensor | None = None
    previous_reward: Tensor | None = None

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return self.reset.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, for a checkpoint."""
        named = {"sequences": torch.tensor(len(self.carries))}
        for field in fields(self):
            entry = getattr(self, field.name)
            if isinstance(entry, dict):
                named |= {f"{field.name}.{key}": x for key, x in entry.items()}
            elif isinstance(entry, tuple):
                named |= {f"{field.name}.{i}": x for i, x in enumerate(tree_leaves(entry))}
            elif entry is not None:
                named[field.name] = entry
        return named

    @classmethod
    def of(cls, named: Mapping[str, Tensor], carry: Carry) -> Self:
        """The segment from what `tensors` returned.

        Args:
            carry: any of the policy's carries; only its structure counts.
        """
        each = len(tree_leaves(carry))

        def tree(field: str, number: int) -> Any:
            first = number * each
            return tree_like(carry, [named[f"{field}.{first + i}"] for i in range(each)])

        columns: dict[str, Any] = {f.name: named[f.name] for f in fields(cls) if f.name in named}
        columns.setdefault("obs", under_prefix("obs.", named))
        carries = tuple(tree("carries", number) for number in range(int(named["sequences"])))
        return cls(**columns, carries=carries, carry_out=tree("carry_out", 0))

    def sequences(self, *, obs: Obs, advantage: Tensor, target: Tensor) -> Sequences:
        """Cuts the segment at its stored carries: K carries make K * B sequences of T / K steps.

        Args:
            obs: `[T, B, ...]` prepared observations.
            advantage: `[T, B]`
            target: `[T, B]` value target.
        """
        return Sequences(**self._columns(obs, advantage, target))

    def rewarded_sequences(
        self, *, obs: Obs, advantage: Tensor, target: Tensor
    ) -> RewardedSequences:
        """`sequences` with the inputs of the targets."""
        names = ("reward", "terminated", "truncated", "next_value")
        more = {name: self._cut(getattr(self, name)) for name in names}
        columns = self._columns(obs, advantage, target) | more
        return RewardedSequences(**columns)

    def _columns(self, obs: Obs, advantage: Tensor, target: Tensor) -> dict[str, Any]:
        optional: dict[str, Any] = {
            name: self._cut(column)
            for name in ("previous_action", "previous_reward")
            if (column := getattr(self, name)) is not None
        }
        return optional | {
            "obs": tree_map(self._cut, obs),
            "action": self._cut(self.action),
            "log_prob": self._cut(self.log_prob),
            "value": self._cut(self.value),
            "advantage": self._cut(advantage),
            "target": self._cut(target),
            "reset": self._cut(self.reset),
            "carry": tree_map(lambda *leaves: torch.cat(leaves), *self.carries),
        }

    def _cut(self, x: Tensor) -> Tensor:
        count = len(self.carries)
        length = self.steps // count
        if length * count != self.steps:
            raise UsageError(f"{count} carries do not cut {self.steps} steps evenly")
        B, *event = x.shape[1:]
        x = x.reshape(count, length, B, *event).transpose(0, 1)  # [L, K, B, ...]
        return x.reshape(length, count * B, *event)
