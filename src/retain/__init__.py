"""Reinforcement learning that remembers.

Names load on first use, so that importing a part (an environment worker does) costs only that part.
"""

import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if (
    sys.orig_argv[1:3] in (["-m", "retain"], ["-m", "retain.cli"])
    or Path("".join(sys.orig_argv[1:2])).name == "retain"
):
    # Ctrl-C while the command line still loads ends it quietly; cli.main takes it back.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from retain._version import __version__
from retain.envs.register import register_envs

if TYPE_CHECKING:
    from retain import doctor, memory, nn, ops
    from retain.errors import RetainError, UsageError
    from retain.memory import StepMemory, register_memory
    from retain.nn.encoders import register_encoder
    from retain.train.agent import Agent
    from retain.train.algorithms import DDPG, DQN, PPO, SAC, TD3
    from retain.train.loading import load

_HOME = {
    **dict.fromkeys(("PPO", "DDPG", "TD3", "SAC", "DQN"), "retain.train.algorithms"),
    "load": "retain.train.loading",
    "Agent": "retain.train.agent",
    "StepMemory": "retain.memory",
    "register_memory": "retain.memory",
    "register_encoder": "retain.nn.encoders",
    "RetainError": "retain.errors",
    "UsageError": "retain.errors",
}
_MODULES = ("doctor", "memory", "nn", "ops")

__all__ = [
    "DDPG",
    "DQN",
    "PPO",
    "SAC",
    "TD3",
    "Agent",
    "RetainError",
    "StepMemory",
    "UsageError",
    "__version__",
    "doctor",
    "load",
    "memory",
    "nn",
    "ops",
    "register_encoder",
    "register_memory",
]

register_envs()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"retain.{name}")
    raise AttributeError(f"module 'retain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
