"""Parsing flags with tyro, with one line for what is wrong."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import TypeVar

import tyro

from retain.cli.values import checked
from retain.errors import UsageError

Options = TypeVar("Options")


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
    arguments = checked(kind, arguments)
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            options: Options = tyro.cli(
                kind,
                prog=f"retain {verb}",
                description=description,
                args=arguments,
                default=default if default is not None else tyro.MISSING_NONPROP,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as error:
        if error.code in (0, None):
            raise
        raise UsageError(_one_line(printed.getvalue(), verb)) from None
    return options


def _one_line(box: str, verb: str) -> str:
    """The parser's boxed message as one line; the box is of ASCII where the terminal is."""
    inner = [line.strip("│|╭╮╰╯─-+ ") for line in box.splitlines()]
    rest = iter([*inner, ""])
    next(filter(None, rest), None)  # the title
    text = [next(filter(None, rest), ""), *iter(rest.__next__, "")]
    message = " ".join(text).rstrip(".").strip()
    message = re.sub(r"^Error parsing [\w.{}-]+: ", "", message)
    message = re.sub(r"^Missing from retain (\w+): (\w+) (.*) \(required\)", _needs, message)
    message = re.sub(r"^Unrecognized options: (.*)", r"unexpected \1 (expected options)", message)
    return message or f"cannot read the options; see retain {verb} --help"


def _needs(found: re.Match[str]) -> str:
    verb, name, text = found.groups()
    return f"retain {verb} needs {name} (expected {text[0].lower()}{text[1:].rstrip('.')})"


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
