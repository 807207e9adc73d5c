"""Errors that a user can cause: one line each, with the value and the nearest valid choice.

This module imports nothing but the standard library: environment workers load it too.
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any


class RetainError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(RetainError, ValueError):
    """Bad input: a wrong id, flag, field, shape or space. The command line exits with status 2."""


class NonFiniteError(RetainError, ArithmeticError):
    """A loss or gradient is NaN or infinite; raised before the optimizer steps."""

    batch: Any = None
    """The minibatch as named tensors, for the report."""


class EnvironmentFailure(RetainError):
    """Environments or their workers fail repeatedly; the run stops with a checkpoint."""


class CallbackError(RetainError):
    """A callback raised, and the run stopped after its checkpoint. The cause is the original
    exception."""


class StorageError(RetainError):
    """There is no room to write a run; the line says how to continue once there is."""


class HubError(RetainError):
    """The hub refuses a request, or cannot be reached."""


class CheckpointError(RetainError):
    """A run folder or checkpoint is missing, incomplete or from another configuration."""


class RunFailure(RetainError):
    """The process of one of a study's runs died repeatedly."""


class RanksError(RetainError):
    """Another rank of a run died or did not answer, or the ranks cannot reach each other."""


class Notice(UserWarning):
    """One line about what the library did with an input that its user should know; not an error."""


def notice(text: str) -> None:
    """Issues a `Notice`; Python shows the same one once, and `warnings` filters it like any
    other."""
    warnings.warn(text, Notice, stacklevel=2)


def check_range(
    config: Any, *names: str, low: float, high: float | None = None, above: bool = False
) -> None:
    """Checks that every named field, or each of its entries, is a finite number in [low, high];
    None means off and always passes.

    Args:
        high: upper bound; None for no bound.
        above: exclude `low` itself.
    Raises:
        UsageError: names the first field that fails.
    """
    for name in names:
        value = getattr(config, name)
        entries = value if isinstance(value, tuple) else (value,)
        if all(entry is None or _inside(entry, low, high, above) for entry in entries):
            continue
        wanted = f"more than {low}" if above else f"at least {low}"
        wanted = wanted if high is None else f"{low} to {high}"
        may_be_off = any(f.name == name and "None" in str(f.type) for f in fields(config))
        raise UsageError(f"{name} is {value} (expected {wanted}{', or None' * may_be_off})")


def _inside(value: float, low: float, high: float | None, above: bool) -> bool:
    if not math.isfinite(value) or value < low or (above and value == low):
        return False
    return high is None or value <= high


def nearest(name: str, choices: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean 'lstm'?` for the closest choice, or the empty string if none is close.

    The result is meant to end an error line.

    Args:
        likeness: smallest accepted share of letters in common, from 0 to 1.
    """
    known = {choice.lower(): choice for choice in choices}
    match = get_close_matches(name.lower(), known, n=1, cutoff=likeness)
    return f"; did you mean {known[match[0]]!r}?" if match else ""


def unknown(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    """The error for a name outside a closed set: names it, the nearest choice, and all choices."""
    ordered = sorted(choices)
    return UsageError(
        f"unknown {kind} {name!r}{nearest(name, ordered)} (expected one of: {', '.join(ordered)})"
    )
