"""An agent in its training environments: making them, acting there, changing and lending them."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import gymnasium as gym
import numpy as np
from torch import Tensor

from retain.data.stream import Driver
from retain.envs.contract import Backend
from retain.envs.given import OBJECTS, PASS_A_CALLABLE, EnvLike, env_name, given
from retain.envs.groups import make_groups
from retain.envs.options import EnvOptions
from retain.envs.spaces import check_spaces
from retain.errors import UsageError
from retain.train.acting import Acting
from retain.train.config import RunConfig, build, check_names, field_names, values_of
from retain.train.contract import NO_ENV, Progress
from retain.train.distributed import exchange, layout
from retain.train.validation import fitting

State = tuple[dict[str, Tensor], dict[str, Any]]
"""A driver's saved state: tensors, and JSON for the rest."""


class Inhabiting(Acting):
    """An agent with training environments, which are made on first use."""

    action_space: gym.Space[Any]
    progress: Progress
    no_env = NO_ENV
    """The reason why a loaded agent has no environment."""

    def _move_in(self, env: EnvLike | None, run: RunConfig) -> None:
        self.env, self.run_settings = env, run
        self.ranks = exchange()
        self.layout = layout(run.shards, self.ranks)
        self._backends: list[Backend] | None = None
        self._await_state(None)

    def _await_state(self, state: State | None) -> None:
        """Makes a new collector on its next use, which continues from a saved state."""
        self._collector: Driver | None = None
        self._pending = state

    def _environment_state(self) -> State | None:
        """The state of the environments, to be saved; None before the first use."""
        if self._collector is None:
            return self._pending
        return self._collector.state()

    @abstractmethod
    def _make_collector(self) -> Driver:
        """Makes the driver that acts in the training environments."""

    @property
    def own_envs(self) -> int:
        """Environments of this rank."""
        return self.run_settings.num_envs // self.ranks.size

    @property
    def backends(self) -> list[Backend]:
        """The training environments, one backend per group; made on first use."""
        if self._backends is None:
            if self.env is None:
                raise UsageError(self.no_env)
            self._backends = self._make_backends(self.env, self.run_settings)
        return self._backends

    def _make_backends(self, env: EnvLike, run: RunConfig) -> list[Backend]:
        """New training environments with the spaces that the agent knows."""
        if self.layout.several and isinstance(env, OBJECTS):
            raise UsageError(
                f"shards is {self.layout.count}, but {env_name(env)} is one object that cannot be "
                f"divided (expected 1); {PASS_A_CALLABLE}"
            )
        each = run.num_envs // self.layout.count
        backends = [
            backend
            for _ in self.layout.own
            for backend in make_groups(env, each, run.env_options())
        ]
        if hasattr(self, "observation_space"):
            try:
                check_spaces(backends[0], self.observation_space, self.action_space)
            except UsageError:
                for backend in backends:
                    backend.close()
                raise
        return backends

    def set_env(self, env: EnvLike, **settings: Any) -> Self:
        """From now on, learns in another environment with the same spaces, as in a curriculum.

        The parameters, the counters and the replay stay. The current episodes end here, truncated,
        and new episodes begin with the next call of `learn`.

        Args:
            env: the environment, as in the constructor, for the same number of environments.
            settings: environment settings: env_kwargs, time_limit, hide, ... Without env_kwargs the
                new environment gets none; other settings keep their values.
        Raises:
            UsageError: the spaces or the number of environments differ, or a setting is unknown.
        """
        check_names(settings, field_names(EnvOptions))
        env, decided = given(env, {"num_envs": self.run_settings.num_envs})
        values = values_of(self.run_settings) | {"env_kwargs": {}} | decided | settings
        run = build(RunConfig, values | {"num_envs": self.run_settings.num_envs})
        backends = self._make_backends(env, run)
        for backend in self._backends or ():
            if not isinstance(self.env, gym.Env | Backend):  # those are their owner's to close
                backend.close()
        self.env, self.run_settings, self._backends = env, run, backends
        if self._collector is not None:
            self._collector.move(backends, run)
        elif self._pending is not None:
            self._collector = self._make_collector()
            self._collector.restore(*self._pending, play=False)
            self._pending = None
        return self

    @contextmanager
    def lent(self) -> Iterator[Backend]:
        """Lends the first training environments for other episodes. After the block, the current
        episodes are played back to where they were, or truncated if that is impossible."""
        if self._collector is None:
            yield self.backends[0]
        else:
            with self._collector.lent() as backend:
                yield backend

    @property
    def collector(self) -> Driver:
        """The driver that acts in the training environments; it plays back a loaded agent's
        episodes."""
        if self._collector is None:
            self._collector = self._make_collector()
            if self._pending is not None:
                with fitting("the saved state of the environments"):
                    differs = self._collector.restore(*self._pending)
                self._pending = None
                self.progress["not_deterministic"] = np.flatnonzero(differs).tolist()
        return self._collector

    @property
    def steps(self) -> int:
        """Environment steps learned from so far."""
        if self._collector is None and self._pending is not None:
            return int(self._pending[1]["steps"])
        return self._collector.steps if self._collector is not None else 0
