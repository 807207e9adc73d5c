"""Settings from files: for an environment and a memory, by name or by path.

A preset is a folder here with one TOML file for each algorithm (`tuned` applies unless another is
asked for; `cleanrl` and `sb3` are those libraries' numbers), or a file of the user's own. There,

* a table is for the environment that it is named after, or for those of its `env`; `*` matches;
* `like = "table"` begins with what another table holds;
* `[table.none]` holds without memory, `[table.memory]` with any, `[table.recurrent]` with one that
  trains in sequences, `[table.lstm]` with that one; a later one of these wins over an earlier;
* settings above all tables are for every environment.
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
"""What applies unless another is asked for: the tuned settings, and where there are none for an
environment, those that are derived from it (`retain.train.defaults`)."""
NONE = "none"
"""Instead of a preset's name: the algorithm's defaults."""
KINDS = ("none", "memory", "recurrent")
"""Tables for a kind of memory, besides those for one memory by its name."""


@dataclass(frozen=True)
class Table:
    """What a file says about some environments.

    Args:
        env: patterns of their ids.
        layers: settings by kind of memory; "" is for all.
    """

    env: tuple[str, ...]
    layers: dict[str, Preset]

    def fits(self, env: str) -> bool:
        """Whether it is about an environment; ours are known with and without their namespace."""
        ids = {env, env.removeprefix("retain/")}
        return any(fnmatchcase(one, pattern) for one in ids for pattern in self.env)


def names() -> list[str]:
    """The presets that are here, by name."""
    return sorted({path.parent.name for path in FOLDER.glob("*/*.toml")})


def preset(algo: str, env: str, memory: str, name: str = AUTO, *, known: Collection[str]) -> Preset:
    """Field values for an environment and a memory; empty where the preset has none.

    Args:
        name: of a preset, "auto", "none", or the path of a TOML file.
        known: the algorithm's fields.
    Raises:
        UsageError: there is no such preset, or its file is broken; the line names the place.
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
    """The file that a preset's name means; None where it says nothing about the algorithm."""
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
    """A file's tables in its order; what stands above all of them comes first.

    Raises:
        UsageError: the file is no TOML, or holds a name that means nothing; names it.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"preset {path} is no valid TOML: {error}") from None
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
    """The settings and the tables among a table's entries."""
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    return {key: value for key, value in content.items() if key not in tables}, tables


def _check_fields(values: Preset, where: str, algo: str, known: Collection[str]) -> None:
    for name in values:
        if name not in known:
            raise UsageError(f"{where}: {algo} has no setting {name!r}{nearest(name, known)}")
