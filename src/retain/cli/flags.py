"""Parsing flags with tyro, with one line for what is wrong."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import tyro

from retain.errors import UsageError, nearest

Options = TypeVar("Options")


def _names(kind: Any) -> list[str]:
    names: list[str] = []
    for field in fields(kind):
        if is_dataclass(field.type):
            names += _names(field.type)
        else:
            names.append("--" + field.name.replace("_", "-"))
    return names


def _check_flags(kind: Any, arguments: Sequence[str]) -> None:
    """Refuses an unknown flag with the nearest known one.

    Raises:
        UsageError: names both.
    """
    known = [*_names(kind), "--help"]
    known += ["--no-" + name.removeprefix("--") for name in known]
    for argument in arguments:
        if not argument.startswith("--"):
            continue
        flag = argument.split("=", 1)[0].replace("_", "-")
        if flag not in known:
            close = nearest(flag, known)
            raise UsageError(f"unknown flag {flag!r}{close or '; --help lists all of them'}")


def parse(
    kind: type[Options],
    arguments: Sequence[str],
    *,
    verb: str,
    default: Options | None = None,
    description: str = "",
) -> Options:
    """Options of a verb; `--help` prints them with their final values and exits.

    Raises:
        UsageError: an unknown flag or a value of the wrong kind.
    """
    _check_flags(kind, arguments)
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            options: Options = tyro.cli(
                kind,
                prog=f"retain {verb}",
                description=description,
                args=list(arguments),
                default=default if default is not None else tyro.MISSING_NONPROP,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as error:
        if error.code in (0, None):
            raise
        raise UsageError(_one_line(printed.getvalue(), verb)) from None
    return options


def _one_line(box: str, verb: str) -> str:
    """tyro's boxed message as one line, with the nearest choice where one was mistyped."""
    text: list[str] = []
    for line in box.splitlines()[1:]:
        inner = line.strip("│ ").strip()
        if set(inner) <= set("─╰╯"):
            break
        text.append(inner)
    message = " ".join(text).rstrip(".") or f"cannot read the options; see retain {verb} --help"
    wrong = re.search(r"invalid choice '(.*?)' .*?\((.*)\)", message)
    if wrong is not None:
        message += nearest(wrong[1], re.findall(r"'(.*?)'", wrong[2]))
    return message[0].lower() + message[1:]


def given(arguments: Sequence[str]) -> list[str]:
    """The names of the options that a command line sets; `--no-shortcut` sets shortcut."""
    flags = [a.split("=", 1)[0].removeprefix("--") for a in arguments if a.startswith("--")]
    return [flag.replace("-", "_").removeprefix("no_") for flag in flags]


def value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value given to a flag, before anything is parsed."""
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{flag}="):
            return argument.split("=", 1)[1]
    return None
