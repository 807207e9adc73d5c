"""Names the bug: checks of environments, memories and whole agents, and probes with known answers.

`retain.doctor(agent_or_env)` examines its argument; `check_memory`, `check_encoder` and
`check_environment` raise AssertionError, for use in tests.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from retain.doctor.encoder import check_encoder, encoder_results
from retain.doctor.environment import check_environment, environment_results
from retain.doctor.invariants import agent_results
from retain.doctor.learning import SECONDS, learning_results
from retain.doctor.memory import check_memory, memory_results
from retain.doctor.probes import probe_results
from retain.doctor.report import Report, Result, guarded
from retain.envs.given import OBJECTS, PASS_A_CALLABLE, EnvLike, env_name, given
from retain.envs.make import separate
from retain.envs.options import EnvOptions
from retain.errors import UsageError
from retain.memory import Memory
from retain.train.agent import Agent


def examine(
    subject: Any,
    *,
    probes: bool = True,
    learning: float | None = None,
    saw: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Runs every check that applies.

    Args:
        subject: an agent (left unchanged), an environment (anything that an agent takes), or a
            `Memory`.
        probes: also train tiny tasks with known answers, which takes most of the time.
        learning: seconds of training with the agent's own settings in its own environment; None
            means thirty with the probes, and none without them.
        saw: called with each result as soon as it is there.
    Raises:
        UsageError: the subject is none of these.
    """
    report = Report()
    if learning is None:
        learning = SECONDS if probes else 0.0
    for part, *arguments in _parts(subject, probes, learning):
        for result in guarded(part, *arguments):
            report.results.append(result)
            saw(result)
    return report


def _parts(subject: Any, probes: bool, learning: float) -> list[tuple[Any, ...]]:
    """The functions that give the results, with their arguments."""
    if isinstance(subject, Memory):
        return [(memory_results, subject)]
    if isinstance(subject, Agent):
        if subject.env is None:
            raise UsageError(subject.no_env)
        env = _separate(subject.env)
        parts: list[tuple[Any, ...]] = [
            (environment_results, env, subject.run_settings.env_options(), subject.settings),
            (memory_results, subject.policy.torsos[0].memory),
            (encoder_results, subject.policy.torsos[0].encoder, subject.observation_space),
            (agent_results, subject),
        ]
        parts += [(probe_results, subject)] if probes else []
        return parts + ([(learning_results, subject, env, learning)] if learning > 0 else [])
    if isinstance(subject, (str, *OBJECTS)) or callable(subject):
        env, decided = given(subject, {})
        options = EnvOptions(env_kwargs=decided.get("env_kwargs", {}))
        return [(environment_results, _separate(env), options)]
    raise UsageError(
        f"cannot examine {type(subject).__name__} (expected an agent, an environment or a Memory)"
    )


def _separate(env: EnvLike) -> EnvLike:
    """A maker of similar environments, to examine separately."""
    made = separate(env)
    if made is None:
        raise UsageError(
            f"the doctor needs several environments, but {env_name(env)} cannot be copied: "
            f"{PASS_A_CALLABLE}"
        )
    return made


class _Callable(ModuleType):
    def __call__(self, subject: Any, **options: Any) -> Report:
        return examine(subject, **options)


sys.modules[__name__].__class__ = _Callable

__all__ = [
    "Report",
    "Result",
    "check_encoder",
    "check_environment",
    "check_memory",
    "examine",
]
