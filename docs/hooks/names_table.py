"""Names of other libraries beside ours, from the table that answers a mistyped setting."""

import re

from retain.train.foreign import COUNTED, OTHER, RENAMED, answer

HEAD = "| there | here |\n|---|---|"
KNOWN = ("num_envs", "num_steps")


def names_table(library: str) -> str:
    """The names that belong to a library, each with ours or with what to do instead.

    Raises:
        ValueError: no name belongs to the library.
    """
    rows = [
        *((name, _ours(ours)) for name, (whose, ours) in RENAMED.items() if library in whose),
        *((name, _counted(name)) for name, (whose, _) in COUNTED.items() if library in whose),
        *((name, instead) for name, (whose, instead) in OTHER.items() if library in whose),
    ]
    if not rows:
        raise ValueError(f"no names of {library} are known")
    return "\n".join([HEAD, *(f"| `{name}` | {text} |" for name, text in rows)])


def _ours(names: str) -> str:
    return " or ".join(f"`{name}`" for name in names.split())


def _counted(name: str) -> str:
    text = answer(name, KNOWN).partition(": ")[2]
    return f"for example: {text}"


def fill_names(markdown: str) -> str:
    """A page with a table in the place of each `<!-- names of LIBRARY -->`."""
    return re.sub(r"<!-- names of (\S+) -->", lambda match: names_table(match[1]), markdown)
