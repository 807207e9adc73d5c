"""Names the bug: checks of environments, memories and whole agents, and probes with known answers.

`retain.doctor(agent_or_env)` examines what it is given; `check_memory`, `check_encoder` and
`check_environment` raise AssertionError, for tests.
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
    """Every check that applies.

    Args:
        subject: an agent (left as it is), an environment (as an agent takes it), or a `Memory`.
        probes: also train the tiny tasks with known answers; most of the time goes there.
        learning: seconds of training with the agent's own settings in its own environment; None is
            thirty with the probes, and none without.
        saw: called with each result as it comes.
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
    """What gives the results, and its arguments."""
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
    """What makes environments like it, to be tried on their own."""
    made = separate(env)
    if made is None:
        raise UsageError(
            f"the doctor tries several environments, but {env_name(env)} is the only one there is: "
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
