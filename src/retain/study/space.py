"""The settings that a search varies, and where: read from the declarations of the settings."""

import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from retain.errors import UsageError, nearest
from retain.memory import memory_class
from retain.memory.registry import own_ranges, own_settings, read_options, write_options
from retain.ranges import Between, Range, read_range
from retain.settings import default_of, search_range
from retain.train.config import RunConfig, check_names, field_names, parts_of
from retain.train.registry import algorithm_class
from retain.train.relevance import Situation, irrelevant
from retain.train.resolved import resolved
from retain.typed import describe_type, fits, read

OPTIONS = "memory_options"
FIXED = {
    "seed": "every trial runs the same seeds",
    "memory": "give the memories to choose from with --memory",
    OPTIONS: "name one of the memory's own settings",
}
"""Settings that no search may vary, each with a reason."""


@dataclass(frozen=True)
class Dimension:
    """One setting of a search.

    Args:
        name: the setting's name; a memory's own setting is `memory.name`.
        wanted: the setting's type.
        option: the name within `memory_options`; None for a field of a configuration.
        default: the option's default, which need not be written down.
    """

    name: str
    range: Range
    wanted: Any
    option: str | None = None
    default: Any = None

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return fits(1, self.wanted) and not fits(1.5, self.wanted)

    def value(self, share: float) -> Any:
        """The setting's value at a share of the range in [0, 1)."""
        found = self.range.at(share)
        return round(found) if self.whole and isinstance(self.range, Between) else found

    def check(self) -> None:
        """Refuses a range that the setting's type does not allow.

        Raises:
            UsageError: names the setting, the value, and the type.
        """
        for value in self.range.examples:
            if isinstance(self.range, Between) and self.whole and float(value).is_integer():
                value = int(value)
            if not fits(value, self.wanted):
                raise UsageError(
                    f"{self.name}: {self.range} has {value!r} (expected "
                    f"{describe_type(self.wanted)})"
                )


@dataclass(frozen=True)
class Base:
    """The settings on which a search stands.

    Args:
        settings: settings of every trial; they are not searched.
    """

    algo: str
    env: str
    settings: Mapping[str, Any]

    @property
    def kinds(self) -> tuple[type[Any], ...]:
        """The configurations of the run and of the algorithm."""
        return RunConfig, algorithm_class(self.algo).config_kind

    def situation(self, memory: str, **changes: Any) -> Situation:
        """The facts about a trial with one memory."""
        settings = {**self.settings, "memory": memory, **changes}
        parts = parts_of(resolved(self.algo, self.env, settings), *self.kinds[::-1])
        return Situation(self.algo, self.env, parts)


def space_of(base: Base, memory: str, given: Mapping[str, Range]) -> tuple[Dimension, ...]:
    """The settings to search with one memory: those that declare a range or are `given` one, that
    are not set, and that would do something.

    Raises:
        UsageError: a given range does not fit its setting.
    """
    found = [*_fields(base, memory, given), *_options(base, memory, given)]
    for dimension in found:
        if dimension.name in given or dimension.option in given:
            _check_ends(base, memory, dimension)
    return tuple(found)


def _fields(base: Base, memory: str, given: Mapping[str, Range]) -> list[Dimension]:
    found = []
    for kind in base.kinds[::-1]:
        hints = typing.get_type_hints(kind)
        for declared in fields(kind):
            name = declared.name
            where = given.get(name) or search_range(kind, name)
            if where is None or name in base.settings:
                continue
            dimension = Dimension(name, where, hints[name])
            if _matters(base, memory, dimension, default_of(declared)):
                found.append(dimension)
    return found


def _matters(base: Base, memory: str, dimension: Dimension, default: Any) -> bool:
    """Whether a setting other than the default would do something."""
    ends = [dimension.value(share) for share in (0.0, 0.999)]
    other = next(value for value in ends if value != default)
    try:
        now = base.situation(memory, **{dimension.name: other})
    except UsageError:  # impossible without another searched setting: a trial will tell
        return True
    return not irrelevant([dimension.name], now)


def _options(base: Base, memory: str, given: Mapping[str, Range]) -> list[Dimension]:
    own = own_settings(memory_class(memory))
    named = {option.partition("=")[0] for option in base.settings.get(OPTIONS, ())}
    ranges = own_ranges(memory_class(memory)) | {n: r for n, r in given.items() if n in own}
    return [
        Dimension(f"{memory}.{name}", where, own[name][0], name, own[name][1])
        for name, where in ranges.items()
        if name not in named
    ]


def _check_ends(base: Base, memory: str, dimension: Dimension) -> None:
    """Checks a given range against the setting's type, and its ends against the configuration."""
    dimension.check()
    if dimension.option is not None or not isinstance(dimension.range, Between):
        return
    for end in dimension.range.examples:
        value = round(end) if dimension.whole else end
        base.situation(memory, **{dimension.name: value})


def read_search(base: Base, memories: Sequence[str], pairs: Sequence[str]) -> dict[str, Range]:
    """The ranges in texts such as `learning_rate=log:1e-5:1e-2`, by the setting's name.

    Raises:
        UsageError: the text has another form, the name is unknown (the line gives the nearest), the
            setting cannot be searched or is set, or the range is empty.
    """
    found: dict[str, Range] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(
                f"search has {pair!r} (expected NAME=RANGE, e.g. learning_rate=log:1e-5:1e-2)"
            )
        name = name.replace("-", "_")
        wanted = _wanted(base, memories, name)
        try:
            found[name] = read_range(text, partial(_read, wanted=wanted))
        except UsageError as error:
            raise UsageError(f"search {name}: {error}") from None
    check_search(base, memories, found)
    return found


def _read(text: str, wanted: Any) -> Any:
    try:
        return read(text, wanted)
    except ValueError:
        raise UsageError(f"{text!r} is no value (expected {describe_type(wanted)})") from None


def check_search(base: Base, memories: Sequence[str], given: Collection[str]) -> None:
    """Refuses names that a search cannot vary.

    Raises:
        UsageError: see `read_search`.
    """
    for name in given:
        _wanted(base, memories, name)
        if name in FIXED:
            raise UsageError(f"search cannot vary {name}: {FIXED[name]}")
        if name in base.settings:
            raise UsageError(f"{name} is set, and so cannot be searched")


def _wanted(base: Base, memories: Sequence[str], name: str) -> Any:
    """The type of a setting, or of a memory's own setting."""
    for kind in base.kinds:
        if name in field_names(kind):
            return typing.get_type_hints(kind)[name]
    own = {n: w for memory in memories for n, (w, _) in own_settings(memory_class(memory)).items()}
    if name not in own:
        known = [*field_names(*base.kinds), *own]
        if nearest(name, known):
            raise UsageError(f"search: unknown setting {name!r}{nearest(name, known)}")
        check_names({name: None}, known)  # another library's name is answered with ours
    return own[name]


def draw(space: Sequence[Dimension], seed: int) -> dict[str, Any]:
    """Random values for every setting of a space, by the dimension's name."""
    shares = np.random.default_rng(seed).random(len(space))
    return {one.name: one.value(float(x)) for one, x in zip(space, shares, strict=True)}


def settings_from(
    space: Sequence[Dimension], values: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings that values of a space stand for.

    Args:
        values: by the dimension's name; a dimension without a value is left alone.
        base: settings of every trial; their `memory_options` stay.
    """
    found: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for one in space:
        if one.name in values and one.option is None:
            found[one.name] = values[one.name]
        elif one.name in values and values[one.name] != one.default:
            options[str(one.option)] = values[one.name]
    if options:
        found[OPTIONS] = (*base.get(OPTIONS, ()), *write_options(options))  # type: ignore[misc]
    return found


def values_in(
    space: Sequence[Dimension], settings: Mapping[str, Any], memory: str
) -> dict[str, Any]:
    """The values of a space that settings stand for, without those outside their range."""
    options = {
        name: default for name, (_, default) in own_settings(memory_class(memory)).items()
    } | read_options(memory_class(memory), settings.get(OPTIONS, ()))
    found = {}
    for one in space:
        value = settings.get(one.name) if one.option is None else options[one.option]
        if one.range.holds(value):
            found[one.name] = value
    return found
