"""The page's tables about what was run: settings, and where they come from."""

from collections.abc import Mapping
from typing import Any

from retain.errors import CheckpointError
from retain.study.report.finding import Collection
from retain.study.report.recipe import SHOWN_ELSEWHERE, Recipe, differing, recipe
from retain.study.report.tables import Table, show

WIDEST = 4
"""Groups that a table has as columns."""


class Recipes:
    """The recipe of each group, or the reason why it is unknown."""

    def __init__(self, collection: Collection, *, trust: bool) -> None:
        self.collection = collection
        self.found: dict[int, Recipe] = {}
        self.problems: list[str] = []
        for number, group in enumerate(collection.groups):
            run = collection.members(number)[0].run
            try:
                self.found[number] = recipe(run, trust=trust)
            except CheckpointError as error:
                self.problems.append(f"{group.name}: {error}")

    def values(self) -> dict[int, Mapping[str, Any]]:
        """Each group's settings; those that could not be checked are as they were saved."""
        return {
            number: self.found[number].values
            if number in self.found
            else self.collection.members(number)[0].run.settings
            for number in range(len(self.collection.groups))
        }


def _by_group(caption: str, collection: Collection, cells: dict[str, dict[int, str]]) -> Table:
    """Settings as rows, groups as columns; for many groups, or for groups of several tasks of which
    one is shown at a time, the other way round."""
    groups = sorted({number for row in cells.values() for number in row})
    names = [collection.groups[number].name for number in groups]
    tasks = [collection.groups[number].task for number in groups]
    if len(groups) > WIDEST or len(set(tasks)) > 1:
        rows = [
            (name, *(cells[setting].get(number, "") for setting in cells))
            for name, number in zip(names, groups, strict=True)
        ]
        return Table(caption, ("", *cells), tuple(rows), tuple(tasks))
    rows = [(name, *(cells[name].get(number, "") for number in groups)) for name in cells]
    return Table(caption, ("setting", *names), tuple(rows), tuple(tasks[:1] * len(rows)))


def what_differs(collection: Collection, recipes: Recipes) -> Table:
    """The settings that are not the same in all groups of a task."""
    cells: dict[str, dict[int, str]] = {}
    for task in collection.tasks:
        values = {
            number: one
            for number, one in recipes.values().items()
            if collection.groups[number].task == task
        }
        for name in differing(list(values.values())):
            row = {n: show(one[name]) if name in one else "" for n, one in values.items()}
            cells.setdefault(name, {}).update(row)
    return _by_group("What differs between the runs", collection, cells)


def what_changed(collection: Collection, recipes: Recipes) -> Table:
    """The settings that are not those the run would have had by itself, with those."""
    cells: dict[str, dict[int, str]] = {}
    for number, made in recipes.found.items():
        for name, value in made.changed.items():
            was = show(made.expected[name])
            cells.setdefault(name, {})[number] = f"{show(value)} (instead of {was})"
    sources = dict.fromkeys(made.source for made in recipes.found.values())
    return _by_group(f"Settings that differ from {' or '.join(sources)}", collection, cells)


def what_followed(collection: Collection, recipes: Recipes) -> Table:
    """The settings that followed from the task, with the reasons."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for number, made in recipes.found.items():
        group = collection.groups[number]
        for one in made.derived:
            key = group.task, one.name, show(one.value), one.reason
            rows.setdefault(key, []).append(group.name)
    several = len(collection.groups) > 1
    cells = [(*key[1:], *((", ".join(names),) if several else ())) for key, names in rows.items()]
    head = ("setting", "value", "why", *(("runs",) if several else ()))
    tasks = tuple(key[0] for key in rows)
    return Table("Settings that followed from the task", head, tuple(cells), tasks)


def all_settings(collection: Collection, recipes: Recipes) -> Table:
    """Every setting of every group."""
    values = recipes.values()
    names = dict.fromkeys(name for one in values.values() for name in one)
    cells = {
        name: {n: show(one[name]) if name in one else "" for n, one in values.items()}
        for name in names
        if name != SHOWN_ELSEWHERE[0]
    }
    return _by_group("Every setting", collection, cells)
