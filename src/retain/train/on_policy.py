"""Agents that learn from fresh segments."""

from collections.abc import Callable
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor

from retain.algos.on_policy import OnPolicyConfig, OnPolicyUpdate
from retain.data.collector import Collector
from retain.train.agent import Agent
from retain.types import Carry, Obs


class OnPolicyAgent(Agent):
    """What collects a segment and learns from it; subclasses say what learns."""

    config: OnPolicyConfig
    update_kind: ClassVar[type[OnPolicyUpdate]]
    """The algorithm."""

    def _build(self) -> None:
        kind = self.update_kind
        policy = kind.networks(self.observation_space, self.action_space, self.config)
        self.policy = policy.to(self.device)
        self.update: OnPolicyUpdate = kind(
            self.config, self.policy, seed=self._seeds[0], num_envs=self.run_settings.num_envs
        )

    def _make_collector(self) -> Collector:
        return Collector(
            self.backends, self.policy, seed=self.run_settings.seed, options=self.run_settings,
            chunk=self.config.sequence, device=self.device,
        )  # fmt: skip

    def iterate(self, progress: Callable[[], float]) -> dict[str, float]:
        """A segment and an update on it; see `Agent.iterate`."""
        return self.update.turn(self.collector, progress)

    def _act(
        self, obs: Obs, carry: Carry, reset: Tensor, action: Tensor, reward: Tensor | None,
        deterministic: bool,
    ) -> tuple[Tensor, Carry]:  # fmt: skip
        dist, _, carry = self.policy(obs, carry, reset, action, reward)
        chosen = dist.mode() if deterministic else dist.sample(self._act_generator)
        return chosen[0], carry

    def _to_env(self, action: Tensor) -> NDArray[Any]:
        values: NDArray[Any] = self.policy.head.to_env(action)
        return values
