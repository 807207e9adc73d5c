"""Launchers by name, and the settings that choose one."""

from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from retain.errors import UsageError, nearest, unknown
from retain.settings import default_of
from retain.study.launcher import Launcher
from retain.study.processes import Processes

OURS = ("processes", "ray")
"""Names of the library's launchers."""


@dataclass(frozen=True)
class LauncherOptions:
    """Where the runs of a study are executed."""

    launcher: str = "processes"
    """Engine of the runs: processes of this machine, ray (docs/ray.md), or module:name of a
    launcher of your own, which is called with jobs."""
    jobs: int | None = None
    """Runs at the same time; by default one per core, or with Ray as many as it has room for."""
    address: str = ""
    """Ray: auto, HOST:PORT or ray://HOST:PORT; by default what RAY_ADDRESS says, or a Ray of the
    command's own on this machine."""
    run_cpus: float = 1.0
    """Ray: cores that each run reserves."""
    run_gpus: float = 0.0
    """Ray: GPUs that each run reserves; 0.25 lets four runs share one."""
    store: str = ""
    """Ray: an fsspec URL (s3://bucket/study) through which runs travel if the machines share no
    folder; by default they share --out."""


def make_launcher(options: LauncherOptions) -> Launcher:
    """The launcher that the settings describe.

    Raises:
        UsageError: the name is unknown, a setting would do nothing, or the engine cannot start.
    """
    name = options.launcher
    if name == "ray":
        from retain.study.ray import Ray

        return Ray(
            options.jobs,
            address=options.address,
            cpus=options.run_cpus,
            gpus=options.run_gpus,
            store=options.store,
        )
    for field in fields(LauncherOptions):
        value = getattr(options, field.name)
        if field.name not in ("launcher", "jobs") and value != default_of(field):
            raise UsageError(f"{field.name} {value!r} would do nothing: launcher is {name!r}")
    if name == "processes":
        return Processes(options.jobs)
    if ":" not in name:
        raise unknown("launcher", name, OURS)
    return _strangers(name, options.jobs)


def _strangers(name: str, jobs: int | None) -> Launcher:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"cannot import {error.name!r} for the launcher {name!r}") from None
    if not callable(getattr(found, path, None)):
        raise UsageError(f"{module} has no launcher {path!r}{nearest(path, vars(found))}")
    made = getattr(found, path)(jobs)
    if not isinstance(made, Launcher):
        raise UsageError(
            f"launcher {name!r} made {type(made).__name__} (expected slots, submit, wait, and a "
            "with block: retain.study.launcher.Launcher)"
        )
    return made
