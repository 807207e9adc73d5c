"""Diagnostics of an update besides its losses; computed once per update at almost no cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from retain.data.rollout import Rollout, Sequences
from retain.data.shards import Shards
from retain.memory import Memory
from retain.nn.policy import SegmentPolicy
from retain.ops import explained_variance
from retain.types import Carry, Obs, tree_leaves

DISAGREE = 1e-3
"""The |log ratio| before an update's first step above which details are worth reporting."""
DRIFT_EVERY = 16
"""Number of updates between two measurements of the stored carries' drift; each costs a forward."""
EARLY = 8
"""Number of steps that count as an episode's beginning."""


def steps_since_reset(reset: Tensor) -> Tensor:
    """`[T, B]` steps since the last reset inside the segment; T or more if there was none."""
    T = len(reset)
    t = torch.arange(T, device=reset.device).unsqueeze(1)
    last = torch.where(reset, t, -T).cummax(0).values
    return t - last


def read(metrics: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Numbers for metrics, of which some are scalars on the device: copies them all at once."""
    scalars = [value for value in metrics.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack(scalars).tolist() if scalars else ())
    return {k: next(numbers) if isinstance(v, Tensor) else float(v) for k, v in metrics.items()}


class Seen(NamedTuple):
    """A segment that an update has trained on."""

    rollout: Rollout
    obs: Obs
    """`[T, B, ...]` prepared observations."""
    target: Tensor
    """`[T, B]` value targets."""


def value_errors(rollout: Rollout, target: Tensor) -> dict[str, Tensor]:
    """Mean |target - value| in the first steps of episodes and later, and both standard
    deviations."""
    error = (target - rollout.value).abs()
    early = (steps_since_reset(rollout.reset) < EARLY).to(error.dtype)
    count, total = early.sum(), error.sum()
    at_first = (error * early).sum()
    return {
        "value_error_early": at_first / count,
        "value_error_late": (total - at_first) / (error.numel() - count),
        "target_std": target.std(),
        "value_std": rollout.value.std(),
    }


def memory_share(
    trained: Iterable[nn.Parameter], memories: Sequence[nn.Module], norms: Tensor
) -> float | Tensor:
    """The memories' share of a gradient's norm, in [0, 1]; NaN if they have no parameters.

    Args:
        trained: P parameters.
        norms: `[P]` norm of each one's gradient.
    """
    own = {id(parameter) for memory in memories for parameter in memory.parameters()}
    if not own:
        return math.nan
    parts = [norm for p, norm in zip(trained, norms, strict=True) if id(p) in own]
    share: Tensor = torch.stack(parts).norm() / norms.norm().clamp_min(1e-20)
    return share


def memory_metrics(memories: Sequence[Memory], carry: Carry) -> dict[str, float | Tensor]:
    """The memories' own metrics (`Memory.metrics`), as `memory_NAME`; averaged over several
    memories.

    Args:
        carry: the carry that acting left, one entry per memory.
    """
    told = [memory.metrics(part) for memory, part in zip(memories, carry, strict=True)]
    return {f"memory_{name}": sum(one[name] for one in told) / len(told) for name in told[0]}


def drift(stored: Carry, now: Carry) -> float | Tensor:
    """|stored - now| / |stored| for two carries, such as what acting left and what the current
    parameters would have left; NaN if there is no carry."""
    norms = drift_norms(stored, now)
    return math.nan if norms is None else norms[0] / norms[1].clamp_min(1e-20)


def drift_norms(stored: Carry, now: Carry) -> tuple[Tensor, Tensor] | None:
    """|stored - now| and |stored|; None if there is no carry."""
    pairs = list(zip(tree_leaves(stored), tree_leaves(now), strict=True))
    if not pairs:
        return None
    gap = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    return gap, torch.stack([a.norm() for a, _ in pairs]).norm()


def where_largest(log_ratio: Tensor, batch: Sequences) -> str:
    """The place in a minibatch `[L, N]` with the largest log ratio, in words."""
    size = log_ratio.abs()
    flat = int(size.argmax())
    t, n = flat // size.shape[1], flat % size.shape[1]
    since = int(steps_since_reset(batch.reset)[t, n])
    place = f"{since} steps after a reset" if since <= t else "before any reset of its sequence"
    by_half = size[: (len(size) + 1) // 2].mean(), size[len(size) // 2 :].mean()
    return (
        f"largest at step {t} of {len(size)}, {place}; mean {by_half[0]:.1g} in the first half "
        f"of sequences, {by_half[1]:.1g} in the second"
    )


class Diagnostics:
    """PPO's diagnostics of the values and the memory (docs/metrics.md)."""

    def __init__(self, policy: SegmentPolicy) -> None:
        self.policy = policy
        self.disagreement: str | None = None
        """The place where acting and training disagreed most, once they did."""
        self.updates = 0
        self.drift: float | Tensor = math.nan

    @torch.no_grad()
    def look(
        self,
        seen: Sequence[Seen],
        trained: Iterable[nn.Parameter],
        norms: Tensor,
        shards: Shards,
    ) -> dict[str, float | Tensor]:
        """Metrics of a finished update.

        Args:
            seen: the segments of this process's shards.
            trained: P parameters.
            norms: `[P]` norm of each one's last gradient.
        """
        rollout, target = self._whole(seen, shards)
        found: dict[str, float | Tensor] = {**value_errors(rollout, target)}
        if self.policy.recurrent:
            if self.updates % DRIFT_EVERY == 0:
                self.drift = self._drift(seen, shards)
            self.updates += 1
            memories = [torso.memory for torso in self.policy.torsos]
            told = [memory_metrics(memories, one.rollout.carry_out) for one in seen]
            found |= {
                "memory_gradient": memory_share(trained, memories, norms),
                "carry_drift": self.drift,
                **{name: shards.average([one[name] for one in told]) for name in told[0]},
            }
        fit = explained_variance(value=rollout.value, target=target)
        return found | {"explained_variance": fit}

    def _whole(self, seen: Sequence[Seen], shards: Shards) -> tuple[Rollout, Tensor]:
        """The values, the resets and the targets of all shards' segments, side by side."""
        rollout, _, target = seen[0]
        if not shards.several:
            return rollout, target
        value = shards.join([one.rollout.value for one in seen])
        reset = shards.join([one.rollout.reset.to(torch.uint8) for one in seen]).bool()
        return replace(rollout, value=value, reset=reset), shards.join([s.target for s in seen])

    def _drift(self, seen: Sequence[Seen], shards: Shards) -> float | Tensor:
        """`drift` of all shards' carries together."""
        pairs = []
        for rollout, obs, _ in seen:
            previous = rollout.previous_action, rollout.previous_reward
            _, _, now = self.policy(obs, rollout.carries[0], rollout.reset, *previous)
            pairs.append((rollout.carry_out, now))
        if not shards.several:
            return drift(*pairs[0])
        norms = [drift_norms(*pair) for pair in pairs]
        squares = [torch.stack(each).square() for each in norms if each is not None]
        if not squares:
            return math.nan
        gap, size = shards.mean(squares).sqrt().unbind()
        share: Tensor = gap / size.clamp_min(1e-20)
        return share

    def state(self) -> dict[str, Any]:
        """The state as JSON."""
        drift = float(self.drift)
        return {"updates": self.updates, "drift": None if math.isnan(drift) else drift}

    def restore(self, facts: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.updates = facts["updates"]
        self.drift = math.nan if facts["drift"] is None else facts["drift"]
