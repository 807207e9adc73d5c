"""Fields of configurations that say, where they are declared, when they matter.

Nothing but the standard library: environment workers load it too.
"""

from dataclasses import MISSING, Field, field
from typing import Any


def setting(default: Any, *, needs: str | None = None, fixed: str | None = None) -> Any:
    """A field of a configuration, with more known about it than its type and its default.

    Args:
        needs: without which it does nothing: another setting (or property of the configuration)
            that must be on, or one of the names in `retain.train.relevance`.
        fixed: why it cannot change in the life of an agent; None where it can.
    """
    return field(default=default, metadata={"needs": needs, "fixed": fixed})


def default_of(declared: Field[Any]) -> Any:
    """What a setting is unless it is given."""
    if declared.default_factory is not MISSING:
        return declared.default_factory()
    return declared.default
