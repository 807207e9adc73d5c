"""The common part of experiment trackers: settings, numbers, and the files worth keeping."""

import contextlib
import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.callbacks.base import Row, Run


def extra(name: str) -> Any:
    """The module of an optional extra.

    Raises:
        UsageError: the extra is not installed; the line says how to install it.
    """
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(
            f"{name} needs an extra that is not installed: pip install 'retain[{name}]'"
        ) from None


def title(run: Run) -> str:
    """The name of a tracked run: its folder, or the agent's name without one."""
    return run.folder.name if run.folder is not None else run.agent.name


def settings_of(run: Run) -> dict[str, object]:
    """Every setting by its name, flat."""
    flat: dict[str, object] = {}
    for key, value in {**run.agent.description(), "steps": run.end - run.first}.items():
        if isinstance(value, Mapping) and not key.endswith("_space"):
            flat |= value
        else:
            flat[key] = value
    return flat


def finite(row: Row) -> Row:
    """The metrics that are finite in this row."""
    return {k: value for k, value in row.items() if k != "step" and math.isfinite(value)}


def artefacts(run: Run) -> list[Path]:
    """Files worth keeping from a run's folder: settings, metrics, curve, and the best checkpoint or
    else the last one."""
    if run.folder is None:
        return []
    names = (store.CONFIG, "metrics.csv", "learning_curve.png")
    paths = [run.folder / name for name in names if (run.folder / name).exists()]
    best = run.folder / store.FOLDER / store.BEST
    with contextlib.suppress(CheckpointError):
        paths.append(best if best.exists() else store.find_checkpoint(run.folder))
    return paths
