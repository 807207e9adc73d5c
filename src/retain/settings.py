"""Fields of configurations that say, where they are declared, when they matter.

Nothing but the standard library: environment workers load it too.
"""

from dataclasses import MISSING, Field, field
from typing import Any


def setting(default: Any, *, needs: str | None = None, fixed: str | None = None) -> Any:
    """A configuration field that knows more about itself than its type and its default.

    Args:
        needs: the setting (or property of the configuration) that must be on for this one to do
            anything, or one of the names in `retain.train.relevance`.
        fixed: the reason why the setting cannot change during an agent's life; None where it can.
    """
    return field(default=default, metadata={"needs": needs, "fixed": fixed})


def default_of(declared: Field[Any]) -> Any:
    """The value that a setting has unless one is given."""
    if declared.default_factory is not MISSING:
        return declared.default_factory()
    return declared.default
