"""The page of every setting, from the classes that declare them."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from retain.envs.options import EnvOptions
from retain.memory import MEMORIES
from retain.memory.registry import own_ranges, own_settings
from retain.settings import default_of, search_range
from retain.train.algorithms import AGENTS
from retain.train.config import RunConfig
from retain.train.relevance import CONDITIONS
from retain.train.signature import notes_of, written
from retain.typed import describe_type

TITLES = {
    "RunConfig": "The run",
    "EnvOptions": "The environment",
    "NetworkConfig": "Networks and memory",
    "ActorCriticConfig": "Actor and critic",
    "OnPolicyConfig": "On-policy algorithms",
    "PolicyGradientConfig": "Policy gradients",
    "OffPolicyConfig": "Off-policy algorithms",
}
"""Headings of the classes that belong to no single algorithm."""
NEEDS = {
    "memory": "a memory",
    "sequences": "a memory that trains in sequences",
    "unbounded": "a memory without a bound",
    "has_actor": "an actor",
    "tuned_alpha": "no fixed `alpha`",
    "box_actions": "Box actions",
    "atari": "an Atari game",
    "images": "images",
    "normalised": "vectors or small images in the observation",
    "cpu": "`device` cpu",
}
"""What a condition of `retain.train.relevance` asks for, in a table's cell."""
OWN_AGENTS = {n: kind for n, kind in AGENTS.items() if kind.__module__.startswith("retain.")}
OWN_MEMORIES = {n: kind for n, kind in MEMORIES.items() if kind.__module__.startswith("retain.")}
"""The library's own; tests register others."""
HEAD = "| setting | type | default | search range | meaning |\n|---|---|---|---|---|"


def settings_page() -> str:
    """Tables of all settings, by the class that declares them."""
    parts = ["## Which of them an algorithm has", "", *_which(), ""]
    for kind in _kinds():
        parts += [f"## {_title(kind)}", "", _lead(kind), "", HEAD]
        parts += [_row(kind, field) for field in own_fields(kind)]
        parts.append("")
    return "\n".join([*parts, *_memories()])


def _configs() -> list[type[Any]]:
    return [agent.config_kind for agent in OWN_AGENTS.values()]


def _kinds() -> list[type[Any]]:
    """Every class that declares settings: the run's first, then bases before their algorithms."""
    found: dict[type[Any], None] = {RunConfig: None, EnvOptions: None}
    for config in _configs():
        for kind in reversed(config.__mro__):
            if dataclasses.is_dataclass(kind) and own_fields(kind):
                found[kind] = None
    return list(found)


def own_fields(kind: type[Any]) -> list[dataclasses.Field[Any]]:
    """The settings that a class declares itself, or whose default it changes."""
    declared = inspect.get_annotations(kind)
    return [field for field in dataclasses.fields(kind) if field.name in declared]


def _title(kind: type[Any]) -> str:
    if kind.__name__ in TITLES:
        return TITLES[kind.__name__]
    algos = [name for name, agent in OWN_AGENTS.items() if agent.config_kind is kind]
    return f"`{algos[0]}`" if algos else kind.__name__


def _lead(kind: type[Any]) -> str:
    users = [name for name, agent in OWN_AGENTS.items() if issubclass(agent.config_kind, kind)]
    if kind in (RunConfig, EnvOptions) or len(users) == len(OWN_AGENTS):
        return "For every algorithm."
    return f"For {_names(users)}."


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _which() -> Iterator[str]:
    yield "| algorithm | tables below |"
    yield "|---|---|"
    for name, agent in OWN_AGENTS.items():
        kinds = [kind for kind in _kinds() if issubclass(agent.config_kind, kind)]
        tables = [_title(kind) for kind in (RunConfig, EnvOptions, *kinds)]
        links = [f"[{title}](#{_slug(title)})" for title in tables]
        yield f"| `{name}` | {', '.join(links)} |"
    yield ""
    yield (
        "Where a setting stands in two tables of an algorithm, the later one has its default. "
        f"Off-policy algorithms begin with `num_envs` {_off_policy_envs()}."
    )


def _off_policy_envs() -> int:
    return int(OWN_AGENTS["sac"].run_defaults["num_envs"])


def _slug(title: str) -> str:
    return re.sub(r"[^\w]+", "-", title.lower()).strip("-")


def _row(kind: type[Any], field: dataclasses.Field[Any]) -> str:
    note = notes_of(kind).get(field.name, "")
    needs, fixed = field.metadata.get("needs"), field.metadata.get("fixed")
    if needs:
        note += f" *Needs {NEEDS.get(needs, f'`{needs}`')}.*"
    if fixed:
        note += f" *Stays for an agent's life: {fixed}.*"
    found = search_range(kind, field.name)
    return _cells(
        f"`{field.name}`", f"`{written(field)}`", f"`{default_of(field)!r}`", _range(found), note
    )


def _range(found: object) -> str:
    return f"`{found}`" if found is not None else ""


def _cells(*cells: str) -> str:
    """A row; a bar within code is no border."""
    return "| " + " | ".join(cells) + " |"


def _memories() -> Iterator[str]:
    """The settings that only one memory has."""
    yield "## Settings of one memory"
    yield ""
    yield "Set with `memory_options={...}` or `--memory-options name=value` ([list](memory.md))."
    yield ""
    yield "| memory " + HEAD.replace("\n|", "\n|---|", 1)
    for name, kind in OWN_MEMORIES.items():
        notes, ranges = _arguments(kind), own_ranges(kind)
        for option, (wanted, default) in own_settings(kind).items():
            yield _cells(
                f"`{name}`", f"`{option}`", f"`{describe_type(wanted)}`", f"`{default!r}`",
                _range(ranges.get(option)), notes.get(option, "").replace("|", "\\|"),
            )  # fmt: skip


def _arguments(kind: type[Any]) -> dict[str, str]:
    """The lines below `Args:` in the docstring of a class or of its bases, by the names."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(vars(base).get("__doc__") or "")
        section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", text, re.M)
        if section is None:
            continue
        name = ""
        for line in textwrap.dedent(section[1]).splitlines():
            begun = re.match(r"([\w, ]+): (.*)", line)
            if begun:
                name, found[begun[1]] = begun[1], begun[2]
            elif name and line.strip():
                found[name] += " " + line.strip()
    return {one: note for names, note in found.items() for one in names.split(", ")}


assert set(NEEDS) <= {*CONDITIONS}, set(NEEDS) - {*CONDITIONS}
