"""Parses flags with tyro, and reports a mistake in one line."""

import io
import json
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

from retain.cli.values import checked
from retain.errors import UsageError
from retain.train import foreign

Options = TypeVar("Options")
FLAGS = tyro.constructors.ConstructorRegistry()
"""How values of kinds that tyro does not know are written on a command line."""


def read_values(arguments: Sequence[str]) -> dict[str, Any]:
    """`size=7 name=x`, or one JSON object, as values by name.

    Raises:
        ValueError: an argument has neither form.
    """
    if len(arguments) == 1 and arguments[0].startswith("{"):
        values: dict[str, Any] = json.loads(arguments[0])
        return values
    return {name: read_value(text) for name, text in map(_split, arguments)}


def _split(argument: str) -> tuple[str, str]:
    name, equals, text = argument.partition("=")
    if not equals:
        raise ValueError(f"{argument!r} is neither NAME=VALUE (such as size=7) nor a JSON object")
    return name, text


def read_value(text: str) -> Any:
    """A number, true, false, null, a JSON list or object; otherwise the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def set_values(pairs: Sequence[str]) -> dict[str, Any]:
    """The config fields that --set gives.

    Raises:
        UsageError: one lacks its "=".
    """
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"--set {pair} (expected FIELD=VALUE)")
    found = map(_split, pairs)
    return {name.replace("-", "_"): read_value(text) for name, text in found}


@FLAGS.primitive_rule
def _values_by_name(info: Any) -> Any:
    if info.type != dict[str, Any]:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE ...",
        instance_from_str=read_values,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{k}={json.dumps(v)}" for k, v in value.items()],
    )


def _theirs(flag: str, known: Sequence[str], arguments: Sequence[str]) -> str:
    """The meaning here of an unknown flag that is another library's name for something."""
    name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
    names = [one.removeprefix("--").replace("-", "_") for one in known]
    given = {one: value_of(foreign.flag(one), arguments) for one in ("num_envs", "num_steps")}
    values = {one: int(text) for one, text in given.items() if text and text.isdecimal()}
    found = foreign.answer(name, names, value_of(flag, arguments), values)
    return foreign.shown(found, foreign.flag)


def parse(
    kind: type[Options],
    arguments: Sequence[str],
    *,
    verb: str,
    default: Options | None = None,
    description: str = "",
) -> Options:
    """The options of a verb; `--help` prints them with their final values and exits.

    Raises:
        UsageError: a flag is unknown or a value has the wrong kind.
    """
    arguments = checked(kind, arguments, _theirs)
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
                registry=FLAGS,
            )
    except SystemExit as error:
        if error.code in (0, None):
            raise
        raise UsageError(_one_line(printed.getvalue(), verb)) from None
    return options


def _one_line(box: str, verb: str) -> str:
    """The parser's boxed message as one line; the box is drawn in ASCII on an ASCII terminal."""
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


def without(arguments: Sequence[str], *flags: str) -> list[str]:
    """The arguments except some flags and their single values."""
    rest, kept = list(arguments), list[str]()
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        if name.replace("_", "-") not in flags:
            kept.append(argument)
        elif not equals and rest:
            rest.pop(0)
    return kept


def value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value given to a flag, before anything is parsed."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") != flag:
            continue
        if equals:
            return value
        if index + 1 < len(arguments):
            return arguments[index + 1]
    return None
