"""A run that was stopped goes on as if it never had been."""

import os
from pathlib import Path

from retain.envs.given import EnvLike
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.loading import load
from retain.train.trainer import finished, go_on


def resume(
    path: str | os.PathLike[str],
    *,
    env: EnvLike | None = None,
    steps: int | None = None,
    progress: bool = False,
) -> Agent:
    """Continues a run from its last checkpoint as if it had never stopped.

    Args:
        path: the run folder.
        env: the environment again, where the run was given an object of Python.
        steps: the run's length from now on, also of one that was finished; schedules go by it.
    Raises:
        CheckpointError: the folder holds no run.
        UsageError: it is finished, or its environment was an object and is not given.
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
    if steps is not None:
        agent.progress["total"] = steps
    if finished(agent):
        raise UsageError(f"{run} is finished: {agent.steps:,} steps are done (more with --steps)")
    if steps is not None:
        store.write_json(run / store.CONFIG, store.read_json(run / store.CONFIG) | {"steps": steps})
    go_on(agent, run, progress)
    return agent
