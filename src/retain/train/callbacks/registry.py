"""Callbacks by name: ours, a user's registered ones, and `module:Name`."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeAlias, TypeVar

from retain.errors import UsageError, unknown
from retain.train.callbacks.base import Callback

CallbackLike: TypeAlias = Callback | type[Callback] | str
"""A callback, a class that needs no arguments, a registered name, or `module:Name`."""
Kind = TypeVar("Kind", bound=type[Callback])

HOMES = {
    "best": "best",
    "csv": "csv",
    "curve": "curve",
    "evaluation": "evaluation",
    "incidents": "incidents",
    "mlflow": "mlflow",
    "monitors": "monitors",
    "recorder": "recorder",
    "tensorboard": "tensorboard",
    "terminal": "terminal",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""Modules of this package that register callbacks; each is imported on first use."""
REGISTERED: dict[str, type[Callback]] = {}


def register_callback(name: str) -> Callable[[Kind], Kind]:
    """Gives a class a name for `--callbacks` and for its state in checkpoints.

    Raises:
        UsageError: another class has the name.
    """

    def register(kind: Kind) -> Kind:
        known = REGISTERED.get(name)
        if known is not None and known.__qualname__ != kind.__qualname__:
            raise UsageError(f"a callback called {name!r} already exists: {known.__qualname__}")
        REGISTERED[name] = kind
        kind.name = name
        return kind

    return register


def make_callback(what: CallbackLike) -> Callback:
    """Makes a callback from a user's value.

    Raises:
        UsageError: the name is unknown, its module cannot be imported, or the value is something
            else.
    """
    kind = _class_of(what) if isinstance(what, str) else what
    if isinstance(kind, type) and issubclass(kind, Callback):
        try:
            return kind()
        except TypeError as error:
            raise UsageError(f"cannot make the callback {kind.__qualname__}: {error}") from None
    if not isinstance(kind, Callback):
        raise UsageError(
            f"{what!r} is not a callback (expected a retain.Callback, a name or module:Name)"
        )
    return kind


def _class_of(name: str) -> object:
    if name in HOMES and name not in REGISTERED:
        import_module(f"retain.train.callbacks.{HOMES[name]}")
    if name in REGISTERED:
        return REGISTERED[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise unknown("callback", name, [*HOMES, *REGISTERED, "module:Name"])
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(f"cannot import {error.name!r} for the callback {name!r}") from None
    except AttributeError:
        raise UsageError(f"{module} has no {attribute!r} for the callback {name!r}") from None


def from_outside(names: Sequence[str]) -> list[str]:
    """The names that would import modules from outside this package."""
    return [name for name in names if name not in HOMES and name not in REGISTERED]
