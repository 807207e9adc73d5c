"""Signatures, help and stubs of agents, generated from their configurations to keep them in step.

`python -m retain.train.signature` writes `algorithms.pyi`, which type checkers and editors read.
`help(retain.PPO)` and completion read what `describe` sets. A test compares the stub with the
configurations.
"""

import ast
import inspect
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import Field, fields
from functools import cache
from pathlib import Path
from typing import Any

from retain.settings import default_of
from retain.train.config import RunConfig
from retain.train.presets import AUTO

CLASSES = {
    "memory": "str | type[Memory]",
    "encoder": "str | type[Encoder]",
    "memory_options": "Mapping[str, Any] | Sequence[str]",
    **dict.fromkeys(
        ("lr_schedule", "clip_schedule", "entropy_schedule"), "str | Callable[[float], float]"
    ),
}
"""Settings that the constructor takes in more forms than a configuration stores."""


def help_of(agent: type[Any]) -> str:
    """A class's docstring with every setting, its type, its default and its description."""
    lines = [inspect.cleandoc(agent.__doc__ or ""), "", "Settings and their defaults:"]
    for field in settings_of(agent.config_kind):
        default = agent.run_defaults.get(field.name, default_of(field))
        lines.append(f"    {field.name}: {written(field)} = {default!r}")
        note = (notes_of(RunConfig) | notes_of(agent.config_kind)).get(field.name, "")
        lines += textwrap.wrap(note, 92, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)


def describe(agent: type[Any]) -> None:
    """Gives an agent's class the signature and docstring that follow from its configuration."""
    kind = inspect.Parameter
    parameters = [
        kind("env", kind.POSITIONAL_OR_KEYWORD, annotation="EnvLike"),
        kind("preset", kind.KEYWORD_ONLY, default=AUTO, annotation=str),
    ]
    for field in settings_of(agent.config_kind):
        default = agent.run_defaults.get(field.name, default_of(field))
        parameters.append(
            kind(field.name, kind.KEYWORD_ONLY, default=default, annotation=field.type)
        )
    agent.__signature__ = inspect.Signature(parameters)
    agent.__doc__ = help_of(agent)


def settings_of(config_kind: type[Any]) -> list[Field[Any]]:
    """Every setting of an algorithm: those of its configuration, then those of the run."""
    return [*fields(config_kind), *fields(RunConfig)]


def written(field: Field[Any]) -> str:
    """A setting's type as source code, in the constructor's form."""
    if field.name in CLASSES:
        return CLASSES[field.name]
    return _source(field.type)


def _source(wanted: Any) -> str:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is tuple:
        return f"Sequence[{_source(arguments[0])}]"
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]".replace("'", '"')
    if arguments and origin is not dict:
        return " | ".join(_source(argument) for argument in arguments)
    if wanted is type(None):
        return "None"
    return wanted.__name__ if isinstance(wanted, type) and not arguments else _plain(wanted)


def _plain(wanted: Any) -> str:
    return str(wanted).replace("typing.", "").replace("collections.abc.", "")


@cache
def notes_of(kind: type[Any]) -> dict[str, str]:
    """The line below each field of a configuration, by the field's name."""
    found: dict[str, str] = {}
    for base in reversed(kind.__bases__):
        found |= notes_of(base)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):  # written where no source is kept
        return found
    assert isinstance(tree, ast.ClassDef)
    for field, note in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(note, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(ast.literal_eval(note.value).split())
    return found


def stub() -> str:
    """The text of `algorithms.pyi`."""
    from retain.train import algorithms

    agents = [a for a in vars(algorithms).values() if _is_own(a, algorithms.__name__)]
    body = [line for agent in agents for line in _class(agent)]
    named = {agent.config_kind for agent in agents} | {agent.__bases__[0] for agent in agents}
    imports = [f"from {one.__module__} import {one.__name__}" for one in named]
    imports += ["from retain.envs.given import EnvLike", "from retain.memory import Memory",
                "from retain.nn.encoders import Encoder",
                "from retain.train.registry import AGENTS as AGENTS",
                "from retain.train.registry import algorithm_class as algorithm_class"]  # fmt: skip
    head = [
        "# Written by `python -m retain.train.signature`; a test says when it must be again.",
        "from collections.abc import Callable, Mapping, Sequence",
        "from typing import Any, Literal",
        "",
        *sorted(imports),
    ]
    return "\n".join([*head, *body]) + "\n"


def _is_own(value: Any, module: str) -> bool:
    return isinstance(value, type) and hasattr(value, "algo") and value.__module__ == module


def _class(agent: type[Any]) -> Iterator[str]:
    """An agent's class with its constructor."""
    base, config = agent.__bases__[0], agent.config_kind
    yield ""
    yield f"class {agent.__name__}({base.__name__}):"
    yield f"    config: {config.__name__}"
    yield "    def __init__("
    yield "        self,"
    yield "        env: EnvLike,"
    yield "        *,"
    yield f'        preset: str = "{AUTO}",'
    for field in settings_of(config):
        default = agent.run_defaults.get(field.name, default_of(field))
        yield f"        {field.name}: {written(field)} = {default!r},".replace("'", '"')
    yield "    ) -> None: ..."


if __name__ == "__main__":
    path = Path(__file__).with_name("algorithms.pyi")
    path.write_text(stub())
