"""The commands that make what the page shows again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retain.errors import CheckpointError
from retain.study.report.finding import STUDY, Collection, Labelled
from retain.study.report.recipe import join, train_command
from retain.study.report.settings_tables import Recipes
from retain.train.checkpoint import read_json
from retain.train.validation import an_object, integer, record, text

MOST = 30
"""Training commands on a page."""
FACTS = record(
    {"env": text, "algo": text, "steps": integer(1), "settings": an_object, "episodes": integer(1)},
    open_to=True,
)
"""Rule for what a comparison writes about itself."""


@dataclass(frozen=True)
class Command:
    """A command line, and what it does."""

    what: str
    line: str
    task: str = ""


def commands(collection: Collection, recipes: Recipes) -> list[Command]:
    """The commands in order: comparisons, then training runs, then looking at a run."""
    found = [one for study in collection.studies for one in _comparison(study, collection, recipes)]
    for number, made in list(recipes.found.items())[:MOST]:
        members, group = collection.members(number), collection.groups[number]
        if members[0].run.facts["env"] is None:
            continue  # the environment was a Python object, which no command line can name
        seeds = _seeds(members)
        line = train_command(members[0].run, made, seeds)
        of = group.name if seeds is None else f"{group.name}, {seeds} seeds"
        found.append(Command(f"train {of}", line, group.task))
    if collection.runs:
        one = collection.runs[0]
        folder, task = str(one.run.folder), one.run.env
        found += [
            Command(f"play episodes with the agent of {one.name}",
                    join(["retain", "eval", folder, "--episodes", "100"]), task),
            Command("play its last training episode again, as a film",
                    join(["retain", "playback", folder, "--video", "episode.gif"]), task),
        ]  # fmt: skip
    return found


def _seeds(members: Sequence[Labelled]) -> int | None:
    """The number of seeds, if they are 1 to n."""
    seeds = sorted(one.run.seed or 0 for one in members)
    return len(seeds) if len(seeds) > 1 and seeds == list(range(1, len(seeds) + 1)) else None


def _comparison(study: Path, collection: Collection, recipes: Recipes) -> list[Command]:
    """The command of a comparison of memories; none if something else was compared."""
    try:
        facts = read_json(study / STUDY)
        FACTS(facts, str(study / STUDY))
    except CheckpointError:
        return []
    members = {
        n: made for n, made in recipes.found.items()
        if study in collection.members(n)[0].run.folder.parents
    }  # fmt: skip
    memories = [made.values["memory"] for made in members.values()]
    if len(memories) < 2 or len(set(memories)) < len(memories):
        return []
    memories.sort(key=lambda name: name != "none")  # the baseline comes first
    seeds = max(len(collection.members(n)) for n in members)
    words = ["retain", "compare", "--env", facts["env"], "--algo", facts["algo"]]
    words += ["--memory", *memories, "--steps", str(facts["steps"]), "--seeds", str(seeds)]
    words += ["--episodes", str(facts["episodes"]), *(["--tune"] if "trials" in facts else [])]
    if facts["settings"]:
        words += ["--set", *(f"{name}={_value(v)}" for name, v in facts["settings"].items())]
    line = join([*words, "--out", str(study)])
    return [Command("the whole comparison; finished runs are kept", line, facts["env"])]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
