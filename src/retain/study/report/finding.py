"""Finds the runs in what the user named: run folders, and folders of them at any depth.

A comparison, several seeds and a sweep are folders of runs with a summary in Markdown, so nothing
here knows one from another.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retain.errors import CheckpointError, UsageError
from retain.memory import MEMORIES
from retain.study.report.reading import METRICS, RunRecord, read_run
from retain.train.checkpoint import CONFIG, FOLDER
from retain.train.files import read_bytes, shorten
from retain.train.plot import colours

SUMMARIES = ("report.md", "seeds.md")
"""Files in which a comparison, a sweep or several seeds say what they found."""
STUDY = "study.json"
SEED = re.compile(r"seed\d+")
MOST_RUNS, MOST_DEPTH = 1000, 6
MOST_SUMMARY = 2**20


@dataclass(frozen=True)
class Group:
    """Runs that differ only by their seed: one curve with its interval.

    Args:
        colour: `#rrggbb`; a memory has its own in every picture.
    """

    name: str
    colour: str
    task: str


@dataclass(frozen=True)
class Labelled:
    """A run with its name on the page, and its group's number."""

    name: str
    group: int
    run: RunRecord


@dataclass(frozen=True)
class Summary:
    """What a folder of runs says about them, as Markdown.

    Args:
        task: the environment of the runs in the folder; empty if they have several.
    """

    name: str
    text: str
    task: str = ""


@dataclass(frozen=True)
class Collection:
    """Everything a page shows.

    Args:
        studies: folders of a comparison, of seeds or of a sweep among those found.
        problems: one line for each file outside the runs that could not be read.
    """

    title: str
    runs: tuple[Labelled, ...]
    groups: tuple[Group, ...]
    summaries: tuple[Summary, ...]
    studies: tuple[Path, ...]
    problems: tuple[str, ...] = ()

    def members(self, group: int) -> list[Labelled]:
        """The runs of a group."""
        return [one for one in self.runs if one.group == group]

    @property
    def tasks(self) -> list[str]:
        """The environments, in order."""
        return list(dict.fromkeys(group.task for group in self.groups))


def collect(paths: Sequence[Path], *, read: Callable[[Path], RunRecord] = read_run) -> Collection:
    """The runs below some folders.

    Args:
        read: reads a run folder.
    Raises:
        UsageError: there are no runs, or too many.
    """
    paths = [Path(os.path.abspath(path)) for path in paths]
    if not paths:
        raise UsageError("no run to report (expected run folders, or folders of runs)")
    root = Path(os.path.commonpath(paths))
    walked = [_walk(path) for path in dict.fromkeys(paths)]
    folders = list(dict.fromkeys(run for runs, _ in walked for run in runs))
    others = list(dict.fromkeys(other for _, above in walked for other in above))
    if len(folders) > MOST_RUNS:
        raise UsageError(f"{len(folders)} runs were found (expected at most {MOST_RUNS} in a page)")
    studies = tuple(folder for folder in others if (folder / STUDY).is_file())
    # What has no memory is the baseline, and comes first.
    records = sorted(map(read, folders), key=lambda run: _remembers(run.memory))
    labelled, groups = _grouped(records, root)
    summaries, problems = list[Summary](), list[str]()
    for folder in others:
        tasks = {one.env for one in records if folder in one.folder.parents}
        try:
            summaries += _summaries(folder, root, tasks.pop() if len(tasks) == 1 else "")
        except CheckpointError as error:
            problems.append(str(error))
    title = labelled[0].name if len(labelled) == 1 else root.name
    return Collection(title, labelled, groups, tuple(summaries), studies, tuple(problems))


def _remembers(name: str) -> bool:
    """Whether a memory of that name sees more than the current step; a stranger's counts as one,
    since nothing is imported to find out."""
    return name not in MEMORIES or MEMORIES[name].receptive_field != 1


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / CONFIG).is_file() or (folder / METRICS).is_file()


def _walk(root: Path) -> tuple[list[Path], list[Path]]:
    """The run folders, and the other folders above them; no link is followed.

    Raises:
        UsageError: there is no run.
    """
    if not root.is_dir():
        what = "a file" if root.exists() else "missing"
        raise UsageError(f"{shorten(root)} is {what} (expected a run folder or a folder of runs)")
    runs, others = list[Path](), list[Path]()
    for parent, below, _ in os.walk(root):
        folder = Path(parent)
        if is_run(folder):
            runs.append(folder)
            below.clear()
            continue
        others.append(folder)
        deep = len(folder.relative_to(root).parts) >= MOST_DEPTH
        # The trials of `compare --tune` choose settings; their curves would drown the comparison's.
        hidden = {FOLDER, *(("tune",) if (folder / STUDY).exists() else ())}
        below[:] = sorted(n for n in below if n[:1] != "." and n not in hidden and not deep)
    if not runs:
        raise UsageError(
            f"{shorten(root)} holds no run (looked for {CONFIG} and {METRICS} in it and in folders "
            f"down to {MOST_DEPTH} below it)"
        )
    return runs, others


def _summaries(folder: Path, root: Path, task: str) -> Iterator[Summary]:
    for name in SUMMARIES:
        path = folder / name
        if path.is_file():
            text = read_bytes(path, MOST_SUMMARY).decode(errors="replace")
            yield Summary(_relative(folder, root), text, task)


def _relative(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    return path.name if name == "." else name


def _grouped(
    runs: Sequence[RunRecord], root: Path
) -> tuple[tuple[Labelled, ...], tuple[Group, ...]]:
    """The runs with their names, and the groups with their colours."""
    keys: dict[Any, int] = {}
    members: dict[int, list[RunRecord]] = {}
    names: list[str] = []
    labelled = []
    for run in runs:
        seeds = SEED.fullmatch(run.folder.name) is not None
        described = " ".join(filter(None, (run.algo, run.memory))) or run.folder.name
        inside = seeds and run.folder.parent != root
        name = _relative(run.folder.parent, root) if inside else described
        key = (name, run.env) if not seeds else (run.folder.parent, run.env)
        if key not in keys:
            keys[key] = len(keys)
            names.append(name)
        members.setdefault(keys[key], []).append(run)
        labelled.append(Labelled(_relative(run.folder, root), keys[key], run))
    return tuple(labelled), _coloured(names, members)


def _coloured(names: Sequence[str], members: dict[int, list[RunRecord]]) -> tuple[Group, ...]:
    """The groups; colours are chosen within a task, which is shown alone."""
    from matplotlib.colors import to_hex

    tasks = [members[number][0].env for number in range(len(names))]
    groups: dict[int, Group] = {}
    for task in dict.fromkeys(tasks):
        here = [number for number, one in enumerate(tasks) if one == task]
        for number, colour in zip(here, colours([members[n][0].memory for n in here]), strict=True):
            groups[number] = Group(names[number], to_hex(colour), task)
    return tuple(groups[number] for number in range(len(names)))
