"""An agent again, from what it saved."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from retain.envs.given import EnvLike, given_again
from retain.train import checkpoint as store
from retain.train.agent import Agent, named
from retain.train.algorithms import AGENTS
from retain.train.changes import changed
from retain.train.config import RunConfig, build
from retain.train.misuse import explained
from retain.train.registry import algorithm_class
from retain.train.spaces import space_from_json


@explained('retain.load("runs/...")')
def load(
    path: str | os.PathLike[str],
    *,
    env: EnvLike | None = None,
    which: str = "last",
    **changes: Any,
) -> Agent:
    """An agent from what `save` wrote or from a run folder.

    Args:
        env: another environment of the same spaces, or the object it was trained with; anything
            that the constructor takes. None takes the id that was saved.
        which: for a run folder, its "last" or its "best" checkpoint.
        changes: settings that are others from now on, e.g. learning_rate; everything that was
            learned stays, the optimizer's moments too.
    Raises:
        CheckpointError: nothing is there, or it is broken; the line names the file.
        UsageError: a setting that cannot change, or not to that; the line says why.
    """
    folder = store.find_checkpoint(Path(path), which)
    facts = store.read_json(folder / store.CONFIG)
    kind, run, config = _settings_of(facts)
    if env is not None:
        # The number of environments stays the agent's: its carry has as many rows.
        env, kwargs = given_again(env, facts["env"], run.env_kwargs)
        run = replace(run, env_kwargs=kwargs)
    parts = changed(run, config, named(changes))
    spaces = (
        space_from_json(facts["observation_space"]),
        space_from_json(facts["action_space"]),
    )
    agent = kind.of(env if env is not None else facts["env"], *parts, spaces)
    agent.check_relevant(changes)
    agent.restore(folder)
    return agent


def load_settings(checkpoint: Path) -> tuple[RunConfig, Any]:
    """The run's and the algorithm's settings in a checkpoint.

    Raises:
        CheckpointError: it is broken; the line names the file.
    """
    return _settings_of(store.read_json(checkpoint / store.CONFIG))[1:]


def _settings_of(facts: dict[str, Any]) -> tuple[type[Agent], RunConfig, Any]:
    name = facts["algo"]
    kind = AGENTS[name] if name in AGENTS else algorithm_class(facts.get("algo_class", name))
    return kind, build(RunConfig, facts["run"]), build(kind.config_kind, facts[name])
