"""Checks the values on a command line against the types of their options."""

import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from retain.errors import UsageError, nearest
from retain.typed import describe_type

NUMBER = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
"""Matches a value that begins with a dash and is not a flag."""
TRUTHS = ("true", "false", "yes", "no", "on", "off", "1", "0")
CALLED = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def flags_of(kind: Any) -> dict[str, Any]:
    """Every flag of a dataclass of options, with the type of its value."""
    flags: dict[str, Any] = {}
    for name, wanted in typing.get_type_hints(kind, include_extras=True).items():
        extras = getattr(wanted, "__metadata__", ())
        if is_dataclass(wanted):
            flags |= flags_of(wanted)
        else:
            renamed = next((x.name for x in extras if getattr(x, "name", None)), name)
            flags["--" + renamed.replace("_", "-")] = wanted.__origin__ if extras else wanted
    return flags


def is_flag(argument: str) -> bool:
    """Whether an argument names an option, as opposed to a negative number."""
    return argument.startswith("-") and argument != "-" and NUMBER.match(argument) is None


Explain = Callable[[str, Sequence[str], Sequence[str]], str]


def checked(kind: Any, arguments: Sequence[str], explain: Explain) -> list[str]:
    """The arguments in the form the parser takes: whole numbers may be written 1e5.

    Args:
        explain: takes an unknown flag, the known flags and all arguments, and returns the flag's
            meaning here, if it has one.
    Raises:
        UsageError: a flag is unknown or lacks its value, or a value has another type; the line
            names what was expected and the nearest choice.
    """
    flags, out = flags_of(kind), list[str]()
    known = [*flags, *(f"--no-{flag[2:]}" for flag, wanted in flags.items() if wanted is bool)]
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not is_flag(argument):
            out.append(argument)
            continue
        flag, equals, text = argument.partition("=")
        flag = flag.replace("_", "-")
        if flag in ("-h", "--help"):
            out.append(argument)
            continue
        if flag not in known:
            theirs = explain(flag, [*known, "--help"], arguments)
            if theirs:
                raise UsageError(f"unknown flag {flag!r}, {theirs}")
            close = nearest(flag, known)
            raise UsageError(f"unknown flag {flag!r}{close or '; --help lists all of them'}")
        values = [text] if equals else []
        while not equals and rest and not is_flag(rest[0]):
            values.append(rest.pop(0))
        taken = _values(flag, values, flags.get(flag, bool), out)
        out += [flag, *taken]
    return out


def _values(flag: str, values: list[str], wanted: Any, before: list[str]) -> list[str]:
    """The values of a flag; surplus ones go to `before`, as positional arguments."""
    if wanted is bool:
        opposite = f"--{flag[5:]}" if flag.startswith("--no-") else f"--no-{flag[2:]}"
        if values and values[0].lower() in TRUTHS:
            raise UsageError(f"{flag} is {values[0]!r} (expected {flag} alone, or {opposite})")
        before += values
        return []
    choices = typing.get_args(wanted) if is_union(wanted) else (wanted,)
    if typing.get_origin(wanted) is dict:
        return values
    if any(typing.get_origin(choice) is tuple for choice in choices):
        entry = typing.get_args(wanted)[0]
        return values if is_union(wanted) else [_value(flag, text, entry) for text in values]
    if not values:
        raise UsageError(f"{flag} needs a value (expected {called(wanted)})")
    before += values[1:]
    return [_value(flag, values[0], wanted)]


def is_union(wanted: Any) -> bool:
    """Whether a type is one of several."""
    return typing.get_origin(wanted) in (typing.Union, types.UnionType)


def _value(flag: str, text: str, wanted: Any) -> str:
    if is_union(wanted):
        choices = [choice for choice in typing.get_args(wanted) if choice is not type(None)]
        if text.lower() == "none":
            return "None"
        if len(choices) > 1:
            return text
        return _value(flag, text, choices[0])
    if typing.get_origin(wanted) is typing.Literal:
        known = [str(choice) for choice in typing.get_args(wanted)]
        if text not in known:
            raise UsageError(
                f"{flag} is {text!r} (expected {called(wanted)}){nearest(text, known)}"
            )
        return text
    try:
        if wanted is int:
            return str(whole(text))
        if wanted is float:
            float(text)
        elif wanted is Path and not text:
            raise ValueError
    except (ValueError, OverflowError):
        raise UsageError(f"{flag} is {text!r} (expected {called(wanted)})") from None
    return text


def whole(text: str) -> int:
    """Reads a whole number, also written as 1e5 or 100_000.

    Raises:
        ValueError: the text is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if value != int(value):
            raise ValueError(text) from None
        return int(value)


def called(wanted: Any) -> str:
    """The name of a type in a user's words."""
    if is_union(wanted):
        parts = [called(x) for x in typing.get_args(wanted) if x is not type(None)]
        return ", ".join(parts) + (" or none" if type(None) in typing.get_args(wanted) else "")
    return CALLED.get(wanted) or describe_type(wanted)
