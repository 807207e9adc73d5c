"""Agents that learn from fresh segments."""

from collections.abc import Callable
from typing import ClassVar

from retain.algos.on_policy import OnPolicyConfig, OnPolicyUpdate
from retain.data.collector import Collector
from retain.nn.policy import SegmentPolicy
from retain.train.agent import Agent


class OnPolicyAgent(Agent):
    """What collects a segment and learns from it; subclasses say what learns."""

    config: OnPolicyConfig
    policy: SegmentPolicy
    update_kind: ClassVar[type[OnPolicyUpdate]]
    """The algorithm."""

    def _build(self) -> None:
        kind = self.update_kind
        policy = kind.networks(self.observation_space, self.action_space, self.config)
        self.policy = policy.to(self.device)
        self.update: OnPolicyUpdate = kind(
            self.config, self.policy, seed=self._seeds[0], num_envs=self.run_settings.num_envs
        )

    @property
    def collector(self) -> Collector:
        """Acts in the training environments; see `Agent.collector`."""
        found = super().collector
        assert isinstance(found, Collector)
        return found

    def _make_collector(self) -> Collector:
        return Collector(
            self.backends, self.policy, seed=self.run_settings.seed, options=self.run_settings,
            chunk=self.config.sequence, device=self.device,
        )  # fmt: skip

    def iterate(
        self, progress: Callable[[], float], over: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """A segment and an update on it; see `Agent.iterate`."""
        return self.update.turn(self.collector, progress)

    def explain(self, metric: str) -> str:
        """How acting and training disagree, where they do; see `Agent.explain`."""
        first = f"first_{self.update.GAP}"
        return str(self.update.diagnostics.disagreement) if metric == first else ""

    def exploration(self) -> float:
        """What the run's end would explore with."""
        return self.update.scale(1.0)
