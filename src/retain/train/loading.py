"""Builds an agent from a saved one; never imports code that a saved file names unless told to."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym

from retain.envs.given import EnvLike, given_again
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.agent import Agent, named
from retain.train.algorithms import AGENTS
from retain.train.changes import changed
from retain.train.config import RunConfig, build, check_names, field_names
from retain.train.defaults import Derived
from retain.train.files import refuse_links, shorten
from retain.train.misuse import explained
from retain.train.registry import algorithm_class
from retain.train.spaces import space_from_json
from retain.train.validation import fitting

ELSEWHERE = ("device", "callbacks")
"""Settings in which `load` looks for no module: one contains colons itself, `resume` handles the
other."""


@explained('retain.load("runs/...")')
def load(
    path: str | os.PathLike[str],
    *,
    env: EnvLike | None = None,
    which: str = "last",
    trust: bool = False,
    buffer_folder: str | None = None,
    **changes: Any,
) -> Agent:
    """Builds an agent from a run folder or from what `save` wrote.

    Args:
        env: another environment with the same spaces, or the object that the agent was trained
            with; anything that the constructor takes. None takes the saved id.
        which: for a run folder, its "last" or its "best" checkpoint.
        trust: import the modules that the saved configuration names, for the environment and for
            parts of the agent; without it, nothing in the folder can run code (docs/security.md).
        buffer_folder: folder of the replay; a saved one is never used.
        changes: settings that change from now on, e.g. learning_rate; the agent keeps everything it
            has learned, including the optimizer's moments.
    Raises:
        CheckpointError: the files are missing, broken or damaged; the line names the file.
        UsageError: a setting cannot change, or not to this value; the line says why.
    """
    path = Path(path)
    refuse_links(path)
    folder = store.find_checkpoint(path, which)
    where = folder / store.CONFIG
    facts = store.load_config(folder)
    kind, run, config = settings_of(facts, where, trust=trust)
    if hasattr(config, "buffer_folder"):
        config = replace(config, buffer_folder=buffer_folder)
    no_env: str | None = None
    if env is not None:
        # The number of environments stays the agent's: its carry has as many rows.
        env, kwargs = given_again(env, facts["env"], run.env_kwargs)
        run = replace(run, env_kwargs=kwargs)
    else:
        try:
            env = saved_env(facts, where, trust=trust)
        except CheckpointError as error:  # only acting needs none
            no_env = str(error)
    parts = changed(run, config, named(changes))
    spaces = saved_space(facts, "observation", where), saved_space(facts, "action", where)
    with nullcontext() if changes else as_saved(where), fitting(where):
        agent = kind.of(env, *parts, spaces)
        agent.derived = tuple(Derived(**one) for one in facts.get("derived", ()))
    if no_env is not None:
        agent.no_env = no_env
    agent.check_relevant(changes)
    agent.restore(folder)
    return agent


def load_settings(checkpoint: Path, *, trust: bool = False) -> tuple[RunConfig, Any]:
    """The run's and the algorithm's settings in a checkpoint.

    Raises:
        CheckpointError: the checkpoint is broken, or names code that is not trusted.
    """
    return settings_of(store.load_config(checkpoint), checkpoint / store.CONFIG, trust=trust)[1:]


def settings_of(
    facts: dict[str, Any], where: Path, *, trust: bool = False
) -> tuple[type[Agent], RunConfig, Any]:
    """The kind of agent that a saved configuration describes, and its settings.

    Raises:
        CheckpointError: a field is unknown, a value has another type or range, or the configuration
            names code that is not trusted.
    """
    algo = facts["algo"]
    path = facts.get("algo_class") or algo
    if algo not in AGENTS and not trust and module_of(path) is not None:
        raise CheckpointError(refusal(where, "algo_class", path))
    with as_saved(where):
        kind = AGENTS[algo] if algo in AGENTS else algorithm_class(path)
    if not trust:
        for name, value in texts({**facts["run"], **facts[algo]}):
            if name not in ELSEWHERE and module_of(value) is not None:
                raise CheckpointError(refusal(where, name, value))
            if name == "env_kwargs" and ("/" in value or "\\" in value):
                raise CheckpointError(
                    f"{where}: env_kwargs has {value!r}, which may be the path of a file: "
                    "if you trust it, pass --trust or trust=True (docs/security.md)"
                )
    with as_saved(where):
        for part, values in ((RunConfig, facts["run"]), (kind.config_kind, facts[algo])):
            check_names(values, field_names(part))
        return kind, build(RunConfig, facts["run"]), build(kind.config_kind, facts[algo])


@contextmanager
def as_saved(where: object) -> Iterator[None]:
    """Reports an impossible setting as a mistake in the file, not in the call.

    Raises:
        CheckpointError: names the file.
    """
    try:
        yield
    except UsageError as error:
        raise CheckpointError(f"{where}: {shorten(error, 400)}") from None


def saved_space(facts: dict[str, Any], name: str, where: Path) -> gym.Space[Any]:
    """The saved observation or action space.

    Raises:
        CheckpointError: the value is not a space.
    """
    place = f"{where}: {name}_space"
    with as_saved(place), fitting(place):
        return space_from_json(facts[f"{name}_space"])


def saved_env(facts: dict[str, Any], where: Path, *, trust: bool) -> str | None:
    """The id of the saved environment; None if the environment was an object.

    Raises:
        CheckpointError: the id names a module that is not trusted.
    """
    saved: str | None = facts["env"]
    if saved is not None and not trust and module_of(saved) is not None:
        raise CheckpointError(refusal(where, "env", saved))
    return saved


def module_of(value: str) -> str | None:
    """The module that `module:name` would import; None if there is none or it has been imported
    already."""
    module, colon, _ = value.partition(":")
    return module if colon and module not in sys.modules else None


def refusal(where: Path, name: str, value: str) -> str:
    """The reason why a saved value is refused."""
    return (
        f"{where}: {name} is {value!r}, which imports the module {module_of(value)!r}: "
        "if you trust it, pass --trust or trust=True (docs/security.md)"
    )


def texts(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every string in a saved configuration, with the name of its field."""
    for name, value in values.items():
        stack = [value]
        while stack:
            entry = stack.pop()
            if isinstance(entry, str):
                yield name, entry
            elif isinstance(entry, list | tuple):
                stack += entry
            elif isinstance(entry, dict):
                stack += [*entry.keys(), *entry.values()]
