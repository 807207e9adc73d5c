"""Memories by name; ours and a user's are registered the same way.

A memory is a class. Its constructor takes the width of its input and, by name, any of the network's
fields that it needs (`FIELDS`). Its other keyword parameters are the memory's own settings, typed
and documented in the class itself, and set with `memory_options` (`--memory-options rate=0.2`). A
range in the type (`rate: Annotated[float, Log(0.01, 1.0)] = 0.1`) lets a search vary one.
"""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retain.errors import UsageError, nearest
from retain.memory.base import Memory
from retain.ranges import Range
from retain.registry import Kind, Registry
from retain.typed import describe_type, fits, read, write

_REGISTRY = Registry[Memory]("a memory", Memory, "retain.memory.Memory")  # type: ignore[type-abstract]
MEMORIES = _REGISTRY.classes
"""Every registered memory by its name."""

FIELDS = {
    "hidden": "memory_hidden",
    "layers": "memory_layers",
    "window": "window",
    "summary": "summary",
    "kernels": "kernels",
}
"""Constructor parameters that take the value of a field of the network's configuration."""


def register_memory(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes a `Memory` class known by `name` (`--memory name`).

    Raises:
        UsageError: another class has the name, or the class is not a `Memory`.
    """
    return _REGISTRY.register(name)


def memory_name(memory: object) -> str:
    """The name that a configuration stores for a memory: registered, or `module:name` of a class.

    Args:
        memory: a name or a class.
    Raises:
        UsageError: the value is neither; for an instance, the line asks for its class.
    """
    if isinstance(memory, str):
        return memory
    if isinstance(memory, Memory):
        kind = type(memory).__name__
        raise UsageError(
            f"memory is a {kind} object (expected the class: memory={kind}; each network makes "
            "its own, with memory_options for its settings)"
        )
    if not (isinstance(memory, type) and issubclass(memory, Memory)):
        raise UsageError(
            f"memory is {memory!r} (expected a name, one of {', '.join(sorted(MEMORIES))}, "
            "'module:name', or a subclass of retain.memory.Memory)"
        )
    return _REGISTRY.name_of(memory)


def memory_class(name: str) -> type[Memory]:
    """The class that a configuration calls `name`.

    Raises:
        UsageError: there is no such memory; the line gives the nearest.
    """
    return _REGISTRY.find(name)


def fields_of(kind: type[Memory]) -> list[str]:
    """The fields of a network's configuration that the memory's constructor takes."""
    parameters = inspect.signature(kind).parameters
    return [name for parameter, name in FIELDS.items() if parameter in parameters]


def own_settings(kind: type[Memory]) -> dict[str, tuple[Any, Any]]:
    """Type and default of each of the memory's own settings, by name."""
    hints = typing.get_type_hints(kind.__init__)
    return {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in list(inspect.signature(kind).parameters.items())[1:]
        if name not in FIELDS and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def own_ranges(kind: type[Memory]) -> dict[str, Range]:
    """Where a search looks for the memory's own settings: the `Range` in an `Annotated` type."""
    hints = typing.get_type_hints(kind.__init__, include_extras=True)
    return {
        name: extra
        for name in own_settings(kind)
        for extra in getattr(hints.get(name), "__metadata__", ())
        if isinstance(extra, Range)
    }


def read_options(kind: type[Memory], options: Sequence[str]) -> dict[str, Any]:
    """A memory's own settings, read from `name=value` texts.

    Raises:
        UsageError: the memory has no such setting (the line gives the nearest), or a value does not
            fit its type.
    """
    known, values = own_settings(kind), {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            raise UsageError(f"memory_options has {option!r} (expected name=value)")
        if name not in known:
            has = (
                f"its own settings: {', '.join(known)}"
                if known
                else "it has no settings of its own"
            )
            raise UsageError(
                f"{kind.__name__} has no setting {name!r}{nearest(name, known)} ({has})"
            )
        wanted = known[name][0]
        try:
            values[name] = read(text, wanted) if wanted is not Any else text
        except ValueError:
            raise UsageError(
                f"{name} of {kind.__name__} is {text!r} (expected {describe_type(wanted)})"
            ) from None
    return values


def write_options(options: object) -> object:
    """Options from a mapping in the form that a configuration stores: `name=value` texts."""
    if not isinstance(options, Mapping):
        return options
    return tuple(f"{name}={write(value)}" for name, value in options.items())


def make_memory(
    memory: str | type[Memory],
    features_in: int,
    hidden: int = 128,
    layers: int = 1,
    *,
    window: int = 8,
    summary: str = "lstm",
    kernels: str = "torch",
    options: Mapping[str, Any] | Sequence[str] = (),
) -> Memory:
    """Builds the memory called `memory` for an input of width `features_in`.

    Args:
        hidden, layers, window, summary, kernels: passed by name to a constructor that takes them.
        options: the memory's own settings, as a mapping or as `name=value` texts.
    Raises:
        UsageError: there is no memory of that name (the line gives the nearest), or a setting does
            not fit.
    """
    kind = memory_class(memory_name(memory))
    values = dict(options) if isinstance(options, Mapping) else read_options(kind, options)
    known = own_settings(kind)
    for name, value in values.items():
        if name not in known or not fits(value, known[name][0]):
            read_options(kind, [f"{name}={write(value)}"])  # says what is wrong with it
    fields = {
        "hidden": hidden, "layers": layers, "window": window, "summary": summary,
        "kernels": kernels,
    }  # fmt: skip
    wanted = inspect.signature(kind).parameters
    given = {name: value for name, value in fields.items() if name in wanted}
    made = kind(features_in, **given, **values)
    if not isinstance(getattr(made, "features", None), int):
        raise UsageError(f"{kind.__name__} has no `features` (expected an int, its output's width)")
    return made
