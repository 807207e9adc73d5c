"""Classes by name: the library's own and a stranger's come through the same door."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Generic, TypeVar

from retain.errors import UsageError, nearest, unknown

Base = TypeVar("Base")
Kind = TypeVar("Kind", bound=type[Any])


def path_of(kind: type[Any]) -> str:
    """The text that imports a class: `module:name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


class Registry(Generic[Base]):
    """The classes of one seam, by name.

    Args:
        what: the seam's word, with its article ("a memory").
        base: what every class derives from.
        home: how a user writes `base`.
        reserved: names that no class may have.
    """

    def __init__(
        self, what: str, base: type[Base], home: str, reserved: Sequence[str] = ()
    ) -> None:
        self.what, self.word, self.base, self.home = what, what.split()[-1], base, home
        self.reserved = tuple(reserved)
        self.classes: dict[str, type[Base]] = {}
        """Every registered class by its name."""
        self.given: dict[str, type[Base]] = {}
        """Classes that were passed as objects, by `module:name`."""

    def holds(self, value: object) -> bool:
        """Whether a value is a class of this seam."""
        return isinstance(value, type) and issubclass(value, self.base) and value is not self.base

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """A decorator that makes a class known by `name`.

        Raises:
            UsageError: another class has the name, or the class is not of this seam.
        """

        def enter(kind: Kind) -> Kind:
            if not self.holds(kind):
                raise UsageError(
                    f"{kind!r} is not {self.what} (expected a subclass of {self.home})"
                )
            before = self.classes.get(name)
            if name in self.reserved or (before is not None and path_of(before) != path_of(kind)):
                owner = "" if before is None else f": {path_of(before)}"
                raise UsageError(f"{self.what} called {name!r} already exists{owner}")
            self.classes[name] = kind
            return kind

        return enter

    def name_of(self, kind: type[Base]) -> str:
        """The name that a configuration stores for a class: registered, or `module:name`."""
        for name, known in self.classes.items():
            if known is kind:
                return name
        self.given[path_of(kind)] = kind
        return path_of(kind)

    def find(self, name: str) -> type[Base]:
        """The class that a configuration calls `name`.

        Raises:
            UsageError: there is none; the line gives the nearest.
        """
        known = self.classes | self.given
        if name in known:
            return known[name]
        if ":" not in name:
            raise unknown(self.word, name, (*self.reserved, *self.classes))
        module, _, path = name.partition(":")
        try:
            found: Any = import_module(module)
        except ModuleNotFoundError as error:
            raise UsageError(f"cannot import {error.name!r} for the {self.word} {name!r}") from None
        if path in self.classes:  # the module registered it under that name
            return self.classes[path]
        names = [key for key, value in vars(found).items() if self.holds(value)]
        for part in path.split("."):
            found = getattr(found, part, None)
        if not self.holds(found):
            raise UsageError(
                f"{module} has no {self.word} {path!r}{nearest(path, names)} (expected a subclass "
                f"of {self.home})"
            )
        return found  # type: ignore[no-any-return]
