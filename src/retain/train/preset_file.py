"""Writes settings as a preset file, which `--preset` reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retain.errors import UsageError
from retain.train.config import RunConfig, values_of
from retain.train.presets import Preset
from retain.train.registry import algorithm_class
from retain.train.resolved import resolved

ELSEWHERE = ("memory", "seed", "threads", "device", "env_kwargs")
"""Settings that no preset file of ours holds: they name its table, or belong to a single run."""


def preset_of(algo: str, env: str, settings: Mapping[str, Any]) -> Preset:
    """The settings that a preset file needs to give an agent these: those that are not defaults.

    Raises:
        UsageError: a setting is impossible, or cannot stand in a file.
    """
    kind = algorithm_class(algo)
    plain = values_of(RunConfig(**kind.run_defaults), kind.config_kind())
    found = {}
    for name, value in resolved(algo, env, settings).items():
        if value != plain[name] and name not in ELSEWHERE:
            toml(name, value)
            found[name] = value
    return found


def write_preset(path: Path, env: str, by_memory: Mapping[str, Preset], title: str) -> None:
    """Writes a file with a table for each memory.

    Args:
        title: comment at the top; may have several lines.
    """
    lines = [f"# {line}" for line in title.splitlines()]
    for memory, settings in by_memory.items():
        lines += ["", f"[{json.dumps(env)}.{json.dumps(memory)}]"]
        lines += [toml(name, value) for name, value in settings.items()]
    path.write_text("\n".join([*lines, ""]))


def toml(name: str, value: Any) -> str:
    """A setting as a line of TOML.

    Raises:
        UsageError: TOML has no such value.
    """
    if value is None or isinstance(value, dict):
        raise UsageError(f"{name} is {value!r}, which no preset file can hold: leave it out")
    if isinstance(value, float):
        return f"{name} = {value!r}"
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"
