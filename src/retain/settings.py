"""Fields of configurations that say, where they are declared, when they matter and where to search.

Nothing but the standard library: environment workers load it too.
"""

from dataclasses import MISSING, Field, field
from typing import Any

from retain.ranges import Range


def setting(
    default: Any,
    *,
    needs: str | None = None,
    fixed: str | None = None,
    search: Range | None = None,
) -> Any:
    """A configuration field that knows more about itself than its type and its default.

    Args:
        needs: the setting (or property of the configuration) that must be on for this one to do
            anything, or one of the names in `retain.train.relevance`.
        fixed: the reason why the setting cannot change during an agent's life; None where it can.
        search: the values in which `retain sweep` and `retain compare --tune` look for the best; a
            subclass that changes only the default keeps them. None leaves the setting alone.
    """
    return field(default=default, metadata={"needs": needs, "fixed": fixed, "search": search})


def search_range(kind: type[Any], name: str) -> Range | None:
    """The range that the nearest class gives a setting; None if none does."""
    for parent in kind.__mro__:
        declared = vars(parent).get("__dataclass_fields__", {}).get(name)
        if declared is not None and declared.metadata.get("search") is not None:
            found: Range = declared.metadata["search"]
            return found
    return None


def default_of(declared: Field[Any]) -> Any:
    """The value that a setting has unless one is given."""
    if declared.default_factory is not MISSING:
        return declared.default_factory()
    return declared.default
