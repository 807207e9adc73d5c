"""An agent again, from what it saved."""

import os
from pathlib import Path

from retain.envs.given import EnvLike, given_again
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.algorithms import AGENTS
from retain.train.config import RunConfig, build
from retain.train.defaults import Derived
from retain.train.misuse import explained
from retain.train.registry import algorithm_class
from retain.train.spaces import space_from_json


@explained('retain.load("runs/...")')
def load(path: str | os.PathLike[str], *, env: EnvLike | None = None, which: str = "last") -> Agent:
    """An agent from what `save` wrote or from a run folder.

    Args:
        env: another environment of the same spaces, or the object it was trained with; anything
            that the constructor takes. None takes the id that was saved.
        which: for a run folder, its "last" or its "best" checkpoint.
    Raises:
        CheckpointError: nothing is there, or it is broken; the line names the file.
    """
    folder = store.find_checkpoint(Path(path), which)
    facts = store.read_json(folder / store.CONFIG)
    name = facts["algo"]
    kind = AGENTS[name] if name in AGENTS else algorithm_class(facts.get("algo_class", name))
    run = facts["run"]
    if env is not None:
        # The number of environments stays the agent's: its carry has as many rows.
        env, kwargs = given_again(env, facts["env"], run.get("env_kwargs", {}))
        run = run | {"env_kwargs": kwargs}
    agent = kind.__new__(kind)
    agent._setup(
        env if env is not None else facts["env"],
        build(RunConfig, run),
        build(kind.config_kind, facts[name]),
        (
            space_from_json(facts["observation_space"]),
            space_from_json(facts["action_space"]),
        ),
    )
    agent.derived = tuple(Derived(**one) for one in facts.get("derived", ()))
    agent.restore(folder)
    return agent
