"""`retain envs`"""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from retain.cli.flags import parse
from retain.envs.catalogue import CATALOGUE
from retain.envs.make import make_single
from retain.envs.native import NATIVE
from retain.errors import UsageError


@dataclass(frozen=True)
class EnvsOptions:
    """The options of `retain envs`: none."""


def short_space(space: Any) -> str:
    """A space in a few characters."""
    name = type(space).__name__
    if hasattr(space, "n") and name == "Discrete":
        return f"Discrete({space.n})"
    return f"{name}{tuple(space.shape)}" if getattr(space, "shape", None) else str(space)


def command(arguments: list[str]) -> int:
    """Prints the table."""
    parse(
        EnvsOptions,
        arguments,
        verb="envs",
        description="List well-known environments; any other gymnasium id or module:id works too.",
    )
    console = Console()
    wide = console.width >= 120
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for column in ("environment", "obs", "action"):
        table.add_column(column, no_wrap=True)
    for column in ("random", "memoryless", "good"):
        table.add_column(column, justify="right", no_wrap=True)
    if wide:
        table.add_column("what it asks", no_wrap=True)
    for name, facts in CATALOGUE.items():
        try:
            env = make_single(name)
            spaces = [short_space(env.observation_space), short_space(env.action_space)]
            env.close()
        except UsageError:
            spaces = ["needs", "retain\\[box2d]"]
        returns = (facts.random, facts.memoryless, facts.good)
        cells = ["-" if value is None else f"{value:g}" for value in returns]
        star = " *" if name in NATIVE else ""
        row = [name + star, *spaces, *cells]
        table.add_row(*row, *([facts.description] if wide else []))
    console.print(table)
    console.print(
        "random, memoryless, good: mean returns.  * natively batched, same numbers as gymnasium's.",
        highlight=False,
    )
    console.print("Any other gymnasium id, module:id or (in Python) callable works as well.")
    return 0
