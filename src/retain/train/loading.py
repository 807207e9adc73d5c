"""An agent again, from what it saved."""

import os
from pathlib import Path

from retain.envs.make import EnvLike
from retain.errors import unknown
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.algorithms import AGENTS
from retain.train.config import RunConfig, build
from retain.train.defaults import Derived
from retain.train.spaces import space_from_json


def load(path: str | os.PathLike[str], *, env: EnvLike | None = None, which: str = "last") -> Agent:
    """An agent from what `save` wrote or from a run folder.

    Args:
        env: another environment of the same spaces, or the callable it was trained with.
        which: for a run folder, its "last" or its "best" checkpoint.
    Raises:
        CheckpointError: nothing is there, or it is broken; the line names the file.
    """
    folder = store.find_checkpoint(Path(path), which)
    facts = store.read_json(folder / store.CONFIG)
    if facts["algo"] not in AGENTS:
        raise unknown("algorithm", facts["algo"], AGENTS)
    kind = AGENTS[facts["algo"]]
    agent = kind.__new__(kind)
    agent._setup(
        env if env is not None else facts["env"],
        build(RunConfig, facts["run"]),
        build(kind.config_kind, facts[facts["algo"]]),
        (
            space_from_json(facts["observation_space"]),
            space_from_json(facts["action_space"]),
        ),
    )
    agent.derived = tuple(Derived(**one) for one in facts.get("derived", ()))
    agent.restore(folder)
    return agent
