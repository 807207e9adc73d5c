"""What a run was made with: settings that are not the preset's, and the command that repeats it.

A saved configuration may come from anyone: nothing that it names is imported, and each word of a
command is quoted for the shell.
"""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from retain.errors import CheckpointError
from retain.memory import MEMORIES
from retain.settings import default_of
from retain.study.report.reading import RunRecord
from retain.train.algorithms import AGENTS
from retain.train.checkpoint import CONFIG
from retain.train.config import RunConfig, field_names
from retain.train.defaults import Derived
from retain.train.loading import settings_of
from retain.train.presets import AUTO, NONE, preset

SHOWN_ELSEWHERE = ("seed", "memory")
"""Settings with a place of their own in a command and on the page."""


@dataclass(frozen=True)
class Recipe:
    """A run's settings beside those it would have had by itself.

    Args:
        values: every setting.
        expected: every setting without the user's: from the preset, the task, or the defaults.
        source: where the expected settings come from, in words.
        preset: the preset from which a command reaches `values` with `changed` alone.
        derived: the settings that followed from the task, with reasons.
    """

    values: Mapping[str, Any]
    expected: Mapping[str, Any]
    source: str
    preset: str
    derived: tuple[Derived, ...]

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that differ from the expected ones, by name."""
        return {
            name: value
            for name, value in self.values.items()
            if value != self.expected[name] and name not in SHOWN_ELSEWHERE
        }


def recipe(run: RunRecord, *, trust: bool = False) -> Recipe:
    """The recipe of a run.

    Args:
        trust: import the modules that the configuration names.
    Raises:
        CheckpointError: the configuration is broken, or names code that is not trusted.
    """
    where = run.folder / CONFIG
    if not run.facts:
        raise CheckpointError(f"{where} does not exist")
    kind, *parts = settings_of(run.facts, where, trust=trust)
    kinds = RunConfig, kind.config_kind
    values: dict[str, Any] = {name: v for part in parts for name, v in _items(part)}
    default = {f.name: default_of(f) for one in kinds for f in fields(one)} | kind.run_defaults
    default |= {name: values[name] for name in SHOWN_ELSEWHERE}
    derived = tuple(Derived(**one) for one in run.facts.get("derived", ()))
    known = field_names(*kinds)
    named = run.algo in AGENTS and run.memory in MEMORIES
    tuned = preset(run.algo, run.env, run.memory, known=known) if named else {}
    if tuned:
        chosen = {name: _as_saved(value) for name, value in tuned.items()}
        return Recipe(values, default | chosen, "the preset for this task", AUTO, ())
    if derived:
        chosen = {one.name: _as_saved(one.value) for one in derived if one.name in known}
        return Recipe(values, default | chosen, "what follows from the task", AUTO, derived)
    return Recipe(values, default, "the algorithm's defaults", NONE, ())


def _items(part: Any) -> list[tuple[str, Any]]:
    return list(asdict(part).items())


def _as_saved(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def flag_of(name: str, value: Any) -> list[str]:
    """A setting as words of a command line."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, Mapping):
        return [flag, json.dumps(value)]
    if isinstance(value, tuple):
        return [flag, *map(str, value)]
    return [flag, str(value)]


def train_command(run: RunRecord, made: Recipe, seeds: int | None = None) -> str:
    """The command that trains the run again.

    Args:
        seeds: number of runs that differ only by their seeds, 1 to n; None is this run alone.
    """
    words = ["retain", "train", run.algo, "--env", str(run.facts["env"])]
    words += flag_of("memory", made.values["memory"])
    words += ["--steps", str(run.facts["steps"])] if "steps" in run.facts else []
    words += [] if made.preset == AUTO else ["--preset", made.preset]
    words += flag_of("seed", made.values["seed"]) if seeds is None else ["--seeds", str(seeds)]
    for name, value in made.changed.items():
        words += flag_of(name, value)
    return join(words)


def join(words: Sequence[str]) -> str:
    """A command line from words that may hold anything; no character of them is a command to the
    shell or to the terminal that it is pasted into."""
    plain = ("".join(c if c.isprintable() else " " for c in word) for word in words)
    return shlex.join(plain)


def differing(recipes: Sequence[Mapping[str, Any]], but: Collection[str] = ("seed",)) -> list[str]:
    """The settings that are not the same in all of some runs."""
    names = dict.fromkeys(name for values in recipes for name in values)
    return [
        name
        for name in names
        if name not in but and any(values.get(name) != recipes[0].get(name) for values in recipes)
    ]
