"""Checks values against declared types, and reads such values from text."""

import types
import typing
from typing import Any


def fits(value: Any, wanted: Any) -> bool:
    """Whether a JSON-like value has a declared type."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return True
    if wanted is None or wanted is type(None):
        return value is None
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def describe_type(wanted: Any) -> str:
    """The name of a declared type in a user's words."""
    if typing.get_origin(wanted) is typing.Literal:
        return "one of " + ", ".join(str(a) for a in typing.get_args(wanted))
    return wanted.__name__ if isinstance(wanted, type) else str(wanted).replace("typing.", "")


def read(text: str, wanted: Any) -> Any:
    """The value of a declared type that `text` stands for: "0.2", "none", "true", "8,16".

    Raises:
        ValueError: the text stands for no such value.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is None or wanted is type(None):
        if text.lower() == "none":
            return None
    elif origin is typing.Literal:
        found = [choice for choice in arguments if str(choice) == text]
        if found:
            return found[0]
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            try:
                return read(text, argument)
            except ValueError:
                continue
    elif origin is tuple:
        return tuple(read(part, arguments[0]) for part in text.split(",") if part)
    elif wanted is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif wanted in (int, float, str):
        return wanted(text)
    raise ValueError(f"{text!r} is no {describe_type(wanted)}")


def write(value: Any) -> str:
    """The text from which `read` returns the value."""
    if isinstance(value, tuple | list):
        return ",".join(write(item) for item in value)
    return str(value)
