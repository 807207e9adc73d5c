"""A run that was stopped goes on as if it never had been."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from retain.envs.given import EnvLike
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.callbacks.registry import CallbackLike, from_outside
from retain.train.loading import load
from retain.train.trainer import finished, go_on


def resume(
    path: str | os.PathLike[str],
    *,
    env: EnvLike | None = None,
    steps: int | None = None,
    progress: bool = False,
    callbacks: Sequence[CallbackLike] | None = None,
) -> Agent:
    """Continues a run from its last checkpoint as if it had never stopped.

    Args:
        path: the run folder.
        env: the environment again, where the run was given an object of Python.
        steps: the run's length from now on, also of one that was finished; schedules go by it.
        callbacks: in place of those the run was given, which find the state they kept; None makes
            those again that it was given by name, but imports nothing that only its files name.
    Raises:
        CheckpointError: the folder holds no run.
        UsageError: it is finished, its environment was an object and is not given, or it names
            callbacks of a module.
    """
    run = Path(path)
    if not (run / store.CONFIG).exists():
        raise CheckpointError(f"{run} holds no run (no {store.CONFIG} in it)")
    if not store.checkpoints(run):
        raise CheckpointError(f"{run} has no checkpoint to resume from")
    agent = load(run, env=env)
    if agent.env is None:
        raise UsageError(
            f"the environment of {run} was an object of Python, which no file holds: go on from "
            f'Python with retain.resume("{run}", env=...)'
        )
    objects: list[CallbackLike] = []
    if callbacks is not None:
        names = tuple(what for what in callbacks if isinstance(what, str))
        objects = [what for what in callbacks if not isinstance(what, str)]
        agent.run_settings = replace(agent.run_settings, callbacks=names)
    elif outside := from_outside(agent.run_settings.callbacks):
        raise UsageError(
            f"{run} names callbacks that would be imported: {', '.join(outside)}; "
            f"say so: retain resume {run} --callbacks {' '.join(agent.run_settings.callbacks)}"
        )
    if steps is not None:
        agent.progress["total"] = steps
    if finished(agent):
        raise UsageError(f"{run} is finished: {agent.steps:,} steps are done (more with --steps)")
    if steps is not None:
        store.write_json(run / store.CONFIG, store.read_json(run / store.CONFIG) | {"steps": steps})
    go_on(agent, run, progress, objects)
    return agent
