"""Checks that a run folder's files are as the library writes them; one line names a deviation.

A rule takes a value and its place, and raises `CheckpointError`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from retain.errors import CheckpointError, RetainError, nearest
from retain.train.files import shorten

Rule = Callable[[Any, str], None]


def _refuse(value: Any, where: str, expected: str) -> CheckpointError:
    return CheckpointError(f"{where} is {shorten(repr(value))} (expected {expected})")


def integer(low: int | None = None, high: int = 2**63 - 1) -> Rule:
    """Accepts a whole number in [low, high]."""

    def rule(value: Any, where: str) -> None:
        at_least = -(2**63) if low is None else low
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= high:
            raise _refuse(value, where, f"a whole number from {at_least} to {high}")

    return rule


def number(value: Any, where: str) -> None:
    """Accepts a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refuse(value, where, "a finite number")


def text(value: Any, where: str) -> None:
    """Accepts a string of at most a few hundred characters."""
    if not isinstance(value, str) or len(value) > 500:
        raise _refuse(value, where, "a string of at most 500 characters")


def anything(value: Any, where: str) -> None:
    """Accepts any value; another rule or its reader checks it."""


def an_object(value: Any, where: str) -> None:
    """Accepts a JSON object with any keys."""
    if not isinstance(value, dict):
        raise _refuse(value, where, "an object")


def optional(rule: Rule) -> Rule:
    """Accepts what `rule` accepts, or null."""
    return lambda value, where: None if value is None else rule(value, where)


def array(rule: Rule, most: int, least: int = 0) -> Rule:
    """Accepts a list of `least` to `most` entries that `rule` accepts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise _refuse(value, where, f"a list of {least} to {most} entries")
        for index, entry in enumerate(value):
            rule(entry, f"{where}[{index}]")

    return check


def record(
    required: dict[str, Rule], also: dict[str, Rule] | None = None, *, open_to: bool = False
) -> Rule:
    """Accepts an object with these keys.

    Args:
        also: keys that may be missing.
        open_to: accept other keys as well.
    """
    known = required | (also or {})

    def check(value: Any, where: str) -> None:
        an_object(value, where)
        for key in required:
            if key not in value:
                raise CheckpointError(f"{where} has no {key!r}")
        for key, entry in value.items():
            if key in known:
                known[key](entry, f"{where}: {key}")
            elif not open_to:
                close = nearest(key, known) or f" (expected one of: {', '.join(known)})"
                raise CheckpointError(f"{where}: unknown key {shorten(key)!r}{close}")

    return check


@contextmanager
def fitting(where: Any) -> Iterator[None]:
    """Attributes any failure inside the block to a file that does not fit.

    Raises:
        CheckpointError: one line that names the file and the reason.
    """
    try:
        yield
    except RetainError:
        raise
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError,
        TypeError, ValueError,
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        line = " ".join(str(reason).split()) or type(error).__name__
        raise CheckpointError(
            f"{where} does not fit this configuration: {shorten(line, 200)}"
        ) from error


count = integer(0)
sha256 = text

_EPISODE = array(anything, 16, 2)


def _recent(value: Any, where: str) -> None:
    array(_EPISODE, 10_000)(value, where)
    for index, entry in enumerate(value):
        number(entry[0], f"{where}[{index}]: return")
        count(entry[1], f"{where}[{index}]: length")


def _states(value: Any, where: str) -> None:
    an_object(value, where)
    for name, state in value.items():
        an_object(state, f"{where}: {shorten(name)}")


ROWS = record({"number": count, "written": array(count, 2**20)}, {"sha256": text})
"""Rule for a file of a replay."""

STATE = record(
    {
        "format": integer(1, 100),
        "update": an_object,
        "progress": record(
            {},
            {
                "start": count,
                "total": integer(1),
                "seconds": number,
                "of": integer(1),
                "callbacks": _states,
                "not_deterministic": array(count, 2**20),
            },
            open_to=True,
        ),
    },
    {
        "collector": record(
            {
                "steps": count,
                "statistics": record({"total": count, "recent": _recent}, open_to=True),
            },
            open_to=True,
        ),
        "replay": record({"files": array(ROWS, 10**6), "shared": anything}),
    },
)
"""Rule for state.json."""

MANIFEST = record({"sha256": record({}, open_to=True)})
"""Rule for manifest.json."""


DERIVED = record({"name": text, "value": anything, "reason": text})
"""Rule for a derived setting, with its value and the reason."""


def check_config(facts: dict[str, Any], where: str) -> None:
    """Checks config.json, except for the settings and spaces in it, which their readers check.

    Raises:
        CheckpointError: says what is wrong.
    """
    text(facts.get("algo"), f"{where}: algo")
    record(
        {
            "algo": text,
            "env": optional(text),
            "run": an_object,
            facts["algo"]: an_object,
            "observation_space": an_object,
            "action_space": an_object,
        },
        {
            "retain": text,
            "env_name": optional(text),
            "steps": integer(1),
            "algo_class": optional(text),
            "derived": array(DERIVED, 100),
        },
    )(facts, where)


EPISODE = record(
    {
        "env": count, "episode": count, "seed": count, "first": count, "length": integer(1),
        "ret": number,
    },
    open_to=True,
)  # fmt: skip
"""Rule for a line of episodes.jsonl."""
