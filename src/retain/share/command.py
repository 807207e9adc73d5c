"""The command that trains an agent again."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from retain.settings import default_of
from retain.train.agent import Agent
from retain.train.config import RunConfig


def command_of(agent: Agent, steps: int) -> str:
    """`retain train ...` with every setting that differs from the algorithm's defaults; without
    the environment's name where it was an object."""
    kinds = RunConfig, type(agent).config_kind
    usual = {f.name: default_of(f) for kind in kinds for f in fields(kind)}
    usual |= type(agent).run_defaults
    changed = {k: v for k, v in agent.settings.items() if v != usual[k] and k != "device"}
    useful = type(agent).useful(changed, agent.env)
    env = agent.env if isinstance(agent.env, str) else "YOUR-ENVIRONMENT"
    words = ["retain", "train", agent.algo, "--env", env, "--preset", "none"]
    words += ["--steps", str(steps)]
    for name, value in useful.items():
        words += _flag(name.replace("_", "-"), value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield f"--{name}" if value else f"--no-{name}"
        return
    yield f"--{name}"
    if isinstance(value, dict):
        yield from (f"{key}={json.dumps(entry)}" for key, entry in value.items())
    elif isinstance(value, tuple):
        yield from map(str, value)
    else:
        yield str(value)
