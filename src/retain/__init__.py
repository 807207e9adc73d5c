"""Reinforcement learning that remembers.

Names load on first use, so that importing a part, as an environment worker does, costs only that
part.
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
    from retain.envs.contract import Backend, EnvStep
    from retain.envs.native import register_backend
    from retain.errors import Notice, RetainError, UsageError
    from retain.memory import StepMemory, register_memory
    from retain.nn.encoders import register_encoder
    from retain.study.report import report
    from retain.study.swept import sweep
    from retain.train.agent import Agent
    from retain.train.algorithms import (
        A2C,
        DDPG,
        DQN,
        PPO,
        PQN,
        QRDQN,
        SAC,
        TD3,
        TQC,
        VTrace,
    )
    from retain.train.callbacks.base import Callback
    from retain.train.callbacks.registry import register_callback
    from retain.train.distributed import join_ranks
    from retain.train.loading import load
    from retain.train.off_policy import OffPolicyAgent
    from retain.train.on_policy import OnPolicyAgent
    from retain.train.registry import register_algorithm
    from retain.train.resume import resume

_HOME = {
    **dict.fromkeys(
        ("A2C", "DDPG", "DQN", "PPO", "PQN", "QRDQN", "SAC", "TD3", "TQC", "VTrace"),
        "retain.train.algorithms",
    ),
    "OnPolicyAgent": "retain.train.on_policy",
    "OffPolicyAgent": "retain.train.off_policy",
    "join_ranks": "retain.train.distributed",
    "register_algorithm": "retain.train.registry",
    "load": "retain.train.loading",
    "sweep": "retain.study.swept",
    "report": "retain.study.report",
    "resume": "retain.train.resume",
    **dict.fromkeys(("Backend", "EnvStep"), "retain.envs.contract"),
    "register_backend": "retain.envs.native",
    "Agent": "retain.train.agent",
    "Callback": "retain.train.callbacks.base",
    "register_callback": "retain.train.callbacks.registry",
    "StepMemory": "retain.memory",
    "register_memory": "retain.memory",
    "register_encoder": "retain.nn.encoders",
    **dict.fromkeys(("Notice", "RetainError", "UsageError"), "retain.errors"),
}
_MODULES = ("doctor", "memory", "nn", "ops")

__all__ = [
    "A2C",
    "DDPG",
    "DQN",
    "PPO",
    "PQN",
    "QRDQN",
    "SAC",
    "TD3",
    "TQC",
    "Agent",
    "Backend",
    "Callback",
    "EnvStep",
    "Notice",
    "OffPolicyAgent",
    "OnPolicyAgent",
    "RetainError",
    "StepMemory",
    "UsageError",
    "VTrace",
    "__version__",
    "doctor",
    "join_ranks",
    "load",
    "memory",
    "nn",
    "ops",
    "register_algorithm",
    "register_backend",
    "register_callback",
    "register_encoder",
    "register_memory",
    "report",
    "resume",
    "sweep",
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
