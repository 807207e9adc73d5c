"""The results of checks, and how they are shown."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from retain.errors import UsageError

Verdict = Literal["ok", "warn", "fail"]
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    name: str
    verdict: Verdict
    measured: str
    """The observed facts, in numbers if there are any."""
    meaning: str = ""
    """The meaning of a verdict other than ok."""
    mend: str = ""
    """The way to fix it."""


def judged(
    name: str, good: bool, measured: str, meaning: str, mend: str, *, otherwise: Verdict = "fail"
) -> Result:
    """A result that explains its meaning only if it is not good."""
    if good:
        return Result(name, "ok", measured)
    return Result(name, otherwise, measured, meaning, mend)


def bootstrap_result(gap: float) -> Result:
    """The result for targets that lie `gap` from those worked out by hand."""
    return judged(
        "truncations bootstrap from the true successor", gap < 1e-3, f"off by {gap:.1e}",
        "At a truncation or a segment's end the value that follows is not that of the final "
        "observation under the carry before the reset, or a termination is bootstrapped.",
        "Evaluate the final observation, not the next episode's first, before any reset; stop at "
        "terminations alone.",
    )  # fmt: skip


def guarded(check: Callable[..., Result | Iterator[Result]], *arguments: Any) -> Iterator[Result]:
    """The results of a check; an exception in it becomes a result too, except for bad input.

    Raises:
        UsageError: the object to check could not even be made.
    """
    try:
        found = check(*arguments)
        yield from [found] if isinstance(found, Result) else found
    except UsageError:
        raise
    except Exception as error:
        yield Result(
            check.__name__.strip("_").replace("_", " "), "fail",
            f"raised {type(error).__name__}: {error}",
            "The check could not run: the code under test raises.",
            "Run the same code alone to see the traceback.",
        )  # fmt: skip


@dataclass
class Report:
    """All results of an examination."""

    results: list[Result] = field(default_factory=list)

    def extend(self, results: Iterable[Result]) -> None:
        """Adds results."""
        self.results.extend(results)

    @property
    def failed(self) -> list[Result]:
        """The results that failed."""
        return [result for result in self.results if result.verdict == "fail"]

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings do not count as failures."""
        return not self.failed

    def __getitem__(self, name: str) -> Result:
        """The result of the check with this name."""
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def to_json(self) -> list[dict[str, Any]]:
        """Every result as JSON values."""
        return [asdict(result) for result in self.results]

    def require(self) -> "Report":
        """Returns the report itself if nothing failed.

        Raises:
            AssertionError: something is broken; the lines say what it means, and how to fix it.
        """
        if self.failed:
            lines = [f"{one.name}: {one.measured}. {one.meaning} {one.mend}" for one in self.failed]
            raise AssertionError("\n".join(lines))
        return self

    def show(self, console: Console | None = None) -> None:
        """Prints the table, and below it the details of results that are not ok."""
        console = console or Console()
        table = Table(box=None, pad_edge=False)
        for column in ("check", "verdict", "measured"):
            table.add_column(column, overflow="fold")
        for one in self.results:
            colour = COLOURS[one.verdict]
            table.add_row(one.name, f"[{colour}]{one.verdict}[/{colour}]", one.measured)
        console.print(table)
        for one in self.results:
            if one.verdict != "ok":
                colour = COLOURS[one.verdict]
                console.print(f"\n[{colour}]{one.name}[/{colour}]: {one.meaning}")
                console.print(f"  mend: {one.mend}", highlight=False)
