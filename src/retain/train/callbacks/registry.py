"""Callbacks by name: ours, a user's registered ones, and `module:Name`."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeAlias

from retain.errors import UsageError, unknown
from retain.registry import Kind, Registry
from retain.train.callbacks.base import Callback

CallbackLike: TypeAlias = Callback | type[Callback] | str
"""A callback, a class that needs no arguments, a registered name, or `module:Name`."""
OURS = (
    "best", "csv", "curve", "evaluation", "incidents", "mlflow", "monitors", "recorder",
    "tensorboard", "terminal", "trackio", "wandb",
)  # fmt: skip
"""Names of this package's callbacks and of the modules that register them, each imported on first
use."""

_REGISTRY = Registry[Callback]("a callback", Callback, "retain.Callback")
REGISTERED = _REGISTRY.classes
"""Every registered callback whose module is imported, by its name."""


def register_callback(name: str) -> Callable[[Kind], Kind]:
    """Gives a class a name for `--callbacks` and for its state in checkpoints.

    Raises:
        UsageError: another class has the name.
    """

    def enter(kind: Kind) -> Kind:
        _REGISTRY.register(name)(kind)
        kind.name = name
        return kind

    return enter


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


def _class_of(name: str) -> type[Callback]:
    if name in OURS and name not in REGISTERED:
        import_module(f"retain.train.callbacks.{name}")
    if name not in REGISTERED and ":" not in name:
        raise unknown("callback", name, [*OURS, *REGISTERED, "module:Name"])
    return _REGISTRY.find(name)


def from_outside(names: Sequence[str]) -> list[str]:
    """The names that would import modules from outside this package."""
    return [name for name in names if name not in OURS and name not in REGISTERED]
