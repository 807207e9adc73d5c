"""The settings of an agent that is not made yet: given ones, its preset's, or derived ones."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from retain.envs.make import spaces_of
from retain.envs.options import EnvOptions
from retain.train.config import RunConfig, values_of
from retain.train.presets import AUTO
from retain.train.registry import algorithm_class
from retain.train.start import Start

Spaces = tuple[gym.Space[Any], gym.Space[Any]]

_KNOWN: dict[str, Spaces] = {}
"""Spaces that were looked up: studies ask for the same ones again and again, and some environments
take a second to make."""


def resolved(algo: str, env: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that an agent made with these would have.

    Raises:
        UsageError: a setting is unknown or impossible, or the environment cannot be made.
    """
    kind = algorithm_class(algo)
    start = Start(algo, (RunConfig, kind.config_kind), kind.run_defaults, env, AUTO, settings)
    run = start.run()
    spaces = _spaces(env, run.env_options()) if start.derives else ()
    return values_of(run, start.config(*spaces))


def _spaces(env: str, options: EnvOptions) -> Spaces:
    key = f"{env} {options}"
    if key not in _KNOWN:
        _KNOWN[key] = spaces_of(env, options)
    return _KNOWN[key]
