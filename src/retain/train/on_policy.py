"""Agents that learn from fresh segments."""

from collections.abc import Callable
from typing import ClassVar

from retain.algos.on_policy import OnPolicyUpdate
from retain.algos.on_policy_config import OnPolicyConfig
from retain.data.collector import Collector
from retain.data.shards import Shards
from retain.nn.policy import SegmentPolicy
from retain.train.agent import Agent
from retain.train.distributed import check_minibatch


class OnPolicyAgent(Agent):
    """An agent that collects a segment and learns from it; subclasses choose the algorithm."""

    config: OnPolicyConfig
    policy: SegmentPolicy
    update_kind: ClassVar[type[OnPolicyUpdate]]
    """The algorithm."""

    def _build(self) -> None:
        kind = self.update_kind
        policy = kind.networks(self.observation_space, self.action_space, self.config)
        self.policy = policy.to(self.device)
        self.update: OnPolicyUpdate = kind(
            self.config, self.policy, seed=self._seeds[0], num_envs=self.own_envs
        )
        if self.layout.several:
            check_minibatch(self.config.batch_size, self.config.sequence, self.layout.count)
            self.update.divide(Shards(self.layout, self.ranks), self._seeds[0])

    @property
    def collector(self) -> Collector:
        """The driver that acts in the training environments; see `Agent.collector`."""
        found = super().collector
        assert isinstance(found, Collector)
        return found

    def _make_collector(self) -> Collector:
        return Collector(
            self.backends, self.policy, seed=self.run_settings.seed, options=self.run_settings,
            chunk=self.config.sequence, device=self.device, shards=self.layout,
        )  # fmt: skip

    def iterate(
        self, progress: Callable[[], float], over: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """Collects a segment and updates on it; see `Agent.iterate`."""
        return self.update.turn(self.collector, progress)

    def explain(self, metric: str) -> str:
        """Where acting and training disagree, if they do; see `Agent.explain`."""
        first = f"first_{self.update.GAP}"
        return str(self.update.diagnostics.disagreement) if metric == first else ""

    def exploration(self) -> float:
        """The exploration at the run's end."""
        return self.update.scale(1.0)
