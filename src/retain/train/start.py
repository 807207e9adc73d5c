"""Determines an agent's settings before the agent exists."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from retain.envs.make import EnvLike, env_name
from retain.nn.torso import NetworkConfig
from retain.train.config import RunConfig, field_names, parts_of
from retain.train.defaults import Derived, derive, settings_of, task_of
from retain.train.presets import AUTO, Preset
from retain.train.presets import preset as find_preset

Kinds = tuple[type[RunConfig], type[NetworkConfig]]


class Start:
    """The user's settings on top of those from a preset or derived from the task.

    Args:
        kinds: the configurations of the run and of the algorithm.
        run_defaults: the algorithm's changes to the run's defaults.
        preset: see `Agent`.
        settings: the user's settings.
    """

    def __init__(
        self,
        algo: str,
        kinds: Kinds,
        run_defaults: Mapping[str, Any],
        env: EnvLike,
        preset: str,
        settings: Mapping[str, Any],
    ) -> None:
        memory, known = str(settings.get("memory", "none")), field_names(*kinds)
        self.kinds, self.settings = kinds, settings
        self.chosen: Preset = find_preset(algo, env_name(env), memory, preset, known=known)
        self.values = {**run_defaults, **self.chosen, **settings}
        self.derives = preset == AUTO and not self.chosen
        """Whether settings are derived, because no preset knows the task."""

    def derived(self, *spaces: gym.Space[Any]) -> tuple[Derived, ...]:
        """The settings derived from the task, and from its spaces once they are known."""
        if not self.derives:
            return ()
        return derive(task_of(self.kinds, self.values, self.settings, *spaces))

    def run(self) -> RunConfig:
        """The run's configuration, which does not depend on the spaces.

        Raises:
            UsageError: a value does not fit.
        """
        run: RunConfig = self._parts()[0]
        return run

    def config(self, *spaces: gym.Space[Any]) -> NetworkConfig:
        """The algorithm's configuration.

        Raises:
            UsageError: a value does not fit.
        """
        config: NetworkConfig = self._parts(*spaces)[1]
        return config

    def _parts(self, *spaces: gym.Space[Any]) -> tuple[Any, ...]:
        return parts_of(self.values | settings_of(self.derived(*spaces)), *self.kinds)
