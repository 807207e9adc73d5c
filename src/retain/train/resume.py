"""Continues a stopped run as if it had never stopped."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retain.envs.given import EnvLike
from retain.errors import CheckpointError, UsageError, nearest
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.callbacks.registry import CallbackLike, from_outside
from retain.train.distributed import exchange
from retain.train.files import refuse_links
from retain.train.loading import load
from retain.train.lock import locked
from retain.train.misuse import explained
from retain.train.plot import plot_run
from retain.train.replay_files import FOLDER, check_rows
from retain.train.trainer import finished, go_on

PICTURE = "learning_curve.png"
BUFFER = "buffer"
"""The replay's subfolder in the run folder, for a resumed run that keeps its replay in files."""


@explained('retain.resume("runs/...")')
def resume(
    path: str | os.PathLike[str],
    *,
    env: EnvLike | None = None,
    steps: int | None = None,
    progress: bool = False,
    callbacks: Sequence[CallbackLike] | None = None,
    checkpoint: str | None = None,
    trust: bool = False,
    buffer_folder: str | None = None,
    **changes: Any,
) -> Agent:
    """Continues a run from its last checkpoint as if it had never stopped.

    Args:
        path: the run folder.
        env: the environment, if the run was given a Python object.
        steps: the run's new length, also for a finished run; schedules follow it.
        callbacks: replace the run's callbacks and find the state that those kept. None makes the
            callbacks again that were given by name, but imports nothing that only the files name.
        checkpoint: name of the checkpoint to continue from; newer ones are set aside.
        trust: import the modules that the run's configuration names; see `load`.
        buffer_folder: folder of a replay that is kept in files; by default in the run folder.
        changes: settings that change from here on, e.g. learning_rate (see `load`); the checkpoint
            that the run continues from is rewritten with them.
    Raises:
        CheckpointError: the folder holds no run, or its newest checkpoint is broken; the line names
            the newest intact one.
        UsageError: the run is finished, its environment was an object and is not given, it names
            callbacks from a module, or another process is using it.
    """
    run = Path(path)
    if not (run / store.CONFIG).exists():
        raise CheckpointError(f"{run} holds no run (no {store.CONFIG} in it)")
    if steps is not None and steps < 1:
        raise UsageError(f"steps is {steps} (expected at least 1)")
    refuse_links(run)
    ranks = exchange()
    leads = ranks.rank == 0
    with locked(run if leads else None):
        start: Path = ranks.first(_start(run, checkpoint) if leads else None)
        try:
            agent = _loaded(run, start, changes, env=env, trust=trust, buffer_folder=buffer_folder)
            objects = _take_callbacks(agent, run, callbacks, trust=trust)
            if leads:
                _set_aside(run, start)
            if steps is not None:
                agent.progress["total"] = steps
            if finished(agent):
                return _finish(agent, run) if leads else agent
            _ = agent.collector  # plays the episodes back, and reads the replay
        except CheckpointError as error:
            raise _with_advice(error, run, start) from None
        if leads and (steps is not None or changes):
            now = store.read_json(run / store.CONFIG)
            now |= agent.description() if changes else {}
            store.write_json(run / store.CONFIG, now | ({} if steps is None else {"steps": steps}))
        if changes:
            agent.save(start, shared=run)
        go_on(agent, run, progress, objects)
    return agent


def _start(run: Path, name: str | None) -> Path:
    """The checkpoint to continue from.

    Raises:
        CheckpointError: the run has none.
        UsageError: the run has no checkpoint of that name.
    """
    found = store.checkpoints(run)
    if not found:
        raise CheckpointError(f"{run} has no checkpoint to resume from")
    if name is None:
        return found[-1]
    wanted = Path(name).name
    if wanted.replace("_", "").replace(",", "").isdecimal():
        wanted = store.checkpoint_name(int(wanted.replace("_", "").replace(",", "")))
    for path in found:
        if path.name == wanted:
            return path
    names = [path.name for path in found]
    close = nearest(wanted, names)
    raise UsageError(f"{run} has no checkpoint {name!r}{close} (it has {', '.join(names)})")


def _loaded(
    run: Path,
    start: Path,
    changes: dict[str, Any],
    *,
    env: EnvLike | None,
    trust: bool,
    buffer_folder: str | None,
) -> Agent:
    """A checkpoint's agent, with environments to continue in and changed settings."""
    facts = store.load_config(start)
    if buffer_folder is None and facts[facts["algo"]].get("buffer_folder") is not None:
        buffer_folder = str(run / BUFFER)
    agent = load(start, env=env, trust=trust, buffer_folder=buffer_folder, **changes)
    for key in ("start", "total", "seconds"):
        if key not in agent.progress:
            raise CheckpointError(f"{start / store.STATE}: progress has no {key!r}")
    if agent.env is None and facts["env"] is None:
        raise UsageError(
            f"the environment of {run} was a Python object, which no file can hold: continue "
            f'from Python with retain.resume("{run}", env=...)'
        )
    return agent


def _take_callbacks(
    agent: Agent, run: Path, callbacks: Sequence[CallbackLike] | None, *, trust: bool
) -> list[CallbackLike]:
    """The callbacks given as objects; callbacks given by name go into the settings.

    Raises:
        UsageError: a saved name would be imported, but is not trusted.
    """
    if callbacks is None:
        outside = [] if trust else from_outside(agent.run_settings.callbacks)
        if outside:
            raise UsageError(
                f"{run} names callbacks that would be imported: {', '.join(outside)}; to allow it: "
                f"retain resume {run} --callbacks {' '.join(agent.run_settings.callbacks)}"
            )
        return []
    names = tuple(what for what in callbacks if isinstance(what, str))
    agent.run_settings = replace(agent.run_settings, callbacks=names)
    return [what for what in callbacks if not isinstance(what, str)]


def whole(run: Path, checkpoint: Path) -> bool:
    """Whether every file that a checkpoint needs is intact."""
    try:
        store.check(checkpoint)
        replay = store.load_state(checkpoint).get("replay")
        if replay is not None:
            check_rows((run if replay["shared"] else checkpoint) / FOLDER, replay["files"])
    except CheckpointError:
        return False
    return True


def _with_advice(error: CheckpointError, run: Path, start: Path) -> CheckpointError:
    """The error with the newest intact checkpoint added, if this one is broken."""
    if whole(run, start):
        return error
    older = [path for path in store.checkpoints(run) if path.name < start.name]
    for path in reversed(older):
        if whole(run, path):
            return CheckpointError(
                f"{error}; the newest intact checkpoint is {path.name}: "
                f"retain resume {run} --from {path.name}"
            )
    return CheckpointError(f"{error}; the run has no older intact checkpoint")


def _set_aside(run: Path, start: Path) -> None:
    """Moves checkpoints newer than the starting one aside; their steps are trained again."""
    for path in store.checkpoints(run):
        if path.name > start.name:
            store.replace_folder(path, path.with_name(f"set_aside.{path.name}"))


def _finish(agent: Agent, run: Path) -> Agent:
    """Draws the picture that a finished run lacks if it was killed before drawing.

    Raises:
        UsageError: the run lacks nothing.
    """
    if (run / PICTURE).exists():
        raise UsageError(f"{run} is finished: {agent.steps:,} steps are done (more with --steps)")
    plot_run(run)
    return agent
