"""Settings from files, by environment and memory; a file has a name or a path.

A preset is a folder here with one TOML file per algorithm (`tuned` applies by default; `cleanrl`
and `sb3` are those libraries' numbers), or a user's own file. In a file,

* a table applies to the environment that it is named after, or to those in its `env`; `*` matches;
* `like = "table"` copies another table's settings first;
* `[table.none]` applies without memory, `[table.memory]` with any, `[table.recurrent]` with one
that trains in sequences, `[table.lstm]` with that one; later ones in this list win over earlier
ones;
* settings above all tables apply to every environment.
"""

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from retain.errors import UsageError, nearest, unknown
from retain.memory import MEMORIES, memory_class

Preset = dict[str, Any]

FOLDER = Path(__file__).parent
TUNED = "tuned"
"""Settings that are known to work in some environments."""
AUTO = "auto"
"""The default: the tuned settings, or for an environment without any, settings derived from it
(`retain.train.defaults`)."""
NONE = "none"
"""The name that asks for no preset: the algorithm's defaults apply."""
KINDS = ("none", "memory", "recurrent")
"""Tables for a kind of memory, in addition to those for a single memory by name."""


@dataclass(frozen=True)
class Table:
    """The part of a file about some environments.

    Args:
        env: patterns of the environments' ids.
        layers: settings by kind of memory; "" applies to all.
    """

    env: tuple[str, ...]
    layers: dict[str, Preset]

    def fits(self, env: str) -> bool:
        """Whether the table applies to an environment; ours match with and without their
        namespace."""
        ids = {env, env.removeprefix("retain/")}
        return any(fnmatchcase(one, pattern) for one in ids for pattern in self.env)


def names() -> list[str]:
    """The names of the presets in this folder."""
    return sorted({path.parent.name for path in FOLDER.glob("*/*.toml")})


def preset(algo: str, env: str, memory: str, name: str = AUTO, *, known: Collection[str]) -> Preset:
    """Field values for an environment and a memory; empty if the preset has none.

    Args:
        name: name of a preset, "auto", "none", or the path of a TOML file.
        known: the algorithm's fields.
    Raises:
        UsageError: there is no such preset, or its file is broken; the line names the file and
            place.
    """
    path = _file(algo, name)
    if path is None:
        return {}
    kinds = ["", "none"] if memory == "none" else ["", "memory"]
    if memory != "none":
        kinds += [*["recurrent"] * memory_class(memory).unrolls, memory]
    values: Preset = {}
    for table in _tables(path, algo, known):
        if table.fits(env):
            for kind in kinds:
                values |= table.layers.get(kind, {})
    return values


def _file(algo: str, name: str) -> Path | None:
    """The file of a preset for an algorithm; None if the preset has none."""
    if name == NONE:
        return None
    if name == AUTO:
        name = TUNED
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise UsageError(f"preset {name!r} does not exist (expected a TOML file)")
        return Path(name)
    if name not in names():
        raise UsageError(f"{unknown('preset', name, [AUTO, NONE, *names()])}, or give a file.toml")
    path = FOLDER / name / f"{algo}.toml"
    return path if path.exists() else None


def _tables(path: Path, algo: str, known: Collection[str]) -> list[Table]:
    """A file's tables in order; settings above all tables come first.

    Raises:
        UsageError: the file is not TOML, or holds an unknown name; the line names it.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"preset {path} is not valid TOML: {error}") from None
    general, named = _split(content)
    _check_fields(general, f"preset {path}", algo, known)
    tables = {"": Table(("*",), {"": general})}
    for name, entries in named.items():
        where = f"preset {path}, [{name}]"
        own, by_memory = _split(entries)
        env, like = own.pop("env", name), own.pop("like", "")
        if like not in tables:
            raise UsageError(f"{where}: like is {like!r} (expected the name of a table above)")
        layers = dict(tables[like].layers) if like else {}
        for kind, values in {"": own, **by_memory}.items():
            if kind not in ("", *KINDS, *MEMORIES) and ":" not in kind:
                raise unknown(f"memory in {where}:", kind, [*KINDS, *MEMORIES])
            _check_fields(values, f"{where[:-1]}.{kind}]" if kind else where, algo, known)
            layers[kind] = layers.get(kind, {}) | values
        tables[name] = Table((env,) if isinstance(env, str) else tuple(env), layers)
    return list(tables.values())


def _split(content: dict[str, Any]) -> tuple[Preset, dict[str, dict[str, Any]]]:
    """Splits a table's entries into settings and inner tables."""
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    return {key: value for key, value in content.items() if key not in tables}, tables


def _check_fields(values: Preset, where: str, algo: str, known: Collection[str]) -> None:
    for name in values:
        if name not in known:
            raise UsageError(f"{where}: {algo} has no setting {name!r}{nearest(name, known)}")
