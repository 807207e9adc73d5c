"""`--overlap`: the next segment is collected while the update learns from the last one.

A copy of the policy acts in a thread of its own, with the parameters from before that update, so a
segment is learned from by parameters that are one update younger than those that acted (the
asynchrony of Petrenko et al. 2020, arXiv:2006.11751, always of exactly one segment). Nothing that
the two write is shared and nothing depends on who is first: the same seeds give the same training.
"""

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from retain.data.collector import Collector
from retain.data.rollout import Rollout
from retain.nn.policy import SegmentPolicy
from retain.types import under_prefix, with_prefix


class Ahead:
    """Collects segments with a copy of a policy.

    Args:
        policy: the policy that learns; nothing has been compiled yet.
    """

    def __init__(self, policy: SegmentPolicy) -> None:
        self.learner, self.actor = policy, copy.deepcopy(policy)
        self.ready: list[Rollout] | None = None
        """The segment to learn from next, one for each of this process's shards."""
        self.share = 0.0
        """The position of the schedules when `ready` was collected."""
        self.learned = False
        """Whether this process has learned from a segment."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collecting")

    def collect(self, collector: Collector, num_steps: int) -> "Future[list[Rollout]]":
        """Begins to collect a segment with the learner's parameters as they are now."""
        self.actor.load_state_dict(self.learner.state_dict())
        collector.policy = self.actor
        return self._thread.submit(_collect, collector, num_steps, torch.get_num_threads())

    def tensors(self, shards: Sequence[int]) -> dict[str, Tensor]:
        """The segment that is ready, of these shards, by name."""
        named: dict[str, Tensor] = {}
        for shard, rollout in zip(shards, self.ready or (), strict=True):
            named |= with_prefix(f"ahead.{shard}.", rollout.tensors())
        return named

    def restore(self, tensors: Mapping[str, Tensor], share: float, shards: Sequence[int]) -> None:
        """Restores what `tensors` returned, and `share`."""
        carry = self.learner.initial_carry(1)
        device = next(self.learner.parameters()).device
        self.share, self.ready = share, []
        for shard in shards:
            named = under_prefix(f"ahead.{shard}.", tensors)
            self.ready.append(Rollout.of({k: x.to(device) for k, x in named.items()}, carry))


def _collect(collector: Collector, num_steps: int, threads: int) -> list[Rollout]:
    torch.set_num_threads(threads)  # a thread begins with a number of its own
    return collector.collect_shards(num_steps)
