"""Schedules of settings over a run: constant, linear, cosine, or any function of progress."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, overload

import torch
from torch import Tensor

from retain.errors import UsageError, unknown

Schedule = Callable[[float], float]
"""The factor on a setting, given the finished share of the run, in [0, 1]."""

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""Schedules by the name that a configuration stores."""

SCALAR_SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + torch.cos(math.pi * progress)),
}
"""The same for progress as a scalar on the device."""

_given: dict[str, Schedule] = {}
"""Functions that were passed as objects, by `module:name`."""


def schedule_name(schedule: object) -> object:
    """The name that a configuration stores for a schedule: its own, or `module:name` of a
    function."""
    if not callable(schedule):
        return schedule
    module = getattr(schedule, "__module__", type(schedule).__module__)
    name = f"{module}:{getattr(schedule, '__qualname__', type(schedule).__qualname__)}"
    _given[name] = schedule
    return name


def check_schedule(name: str) -> None:
    """Refuses a name that no schedule can have; a function is looked up only when it is needed.

    Raises:
        UsageError: names the nearest schedule.
    """
    if ":" not in name and name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)


@overload
def scheduled(value: float, schedule: str, progress: float) -> float: ...


@overload
def scheduled(value: float, schedule: str, progress: float | Tensor) -> float | Tensor: ...


def scheduled(value: float, schedule: str, progress: float | Tensor) -> float | Tensor:
    """`value` times the schedule's factor at `progress` in [0, 1] of the run, a number or a scalar.

    Raises:
        UsageError: the function cannot be found, or its factor is not a finite number of at least
            0.
    """
    if isinstance(progress, Tensor):  # inside a compiled step
        return value if schedule == "constant" else value * SCALAR_SCHEDULES[schedule](progress)
    factor = (SCHEDULES.get(schedule) or _found(schedule))(progress)
    if not 0.0 <= factor < math.inf:
        raise UsageError(
            f"schedule {schedule!r} gives {factor} at {progress:.3g} of the run (expected a finite "
            "factor of at least 0)"
        )
    return value * factor


def _found(name: str) -> Schedule:
    """The function at `module:name`."""
    if name in _given:
        return _given[name]
    module, _, path = name.partition(":")
    found: Any = None
    if "<" not in path and module != "__main__":  # those cannot be imported
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            text = f"cannot import {error.name!r} for the schedule {name!r}"
            raise UsageError(text) from None
        for part in path.split("."):
            found = getattr(found, part, None)
    if not callable(found):
        raise UsageError(
            f"the schedule {name!r} was a function of another process: pass it again, e.g. "
            "retain.load(path, lr_schedule=...)"
        )
    _given[name] = found
    schedule: Schedule = found
    return schedule
