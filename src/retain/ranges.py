"""The values in which a search looks for a setting; a range stands where its setting is declared.

    learning_rate: float = setting(1e-3, search=Log(1e-4, 1e-2))         # in a configuration
    def __init__(self, ..., rate: Annotated[float, Log(0.01, 1.0)] = 0.1)  # in a memory

A range maps a share in [0, 1) evenly to its values. Nothing but the standard library: environment
workers load it too.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from retain.errors import UsageError, unknown


class Range(ABC):
    """The values of one setting that a search may try."""

    @abstractmethod
    def at(self, share: float) -> Any:
        """The value at a share of the range in [0, 1)."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range."""

    @property
    @abstractmethod
    def examples(self) -> tuple[Any, ...]:
        """Values that the setting must accept for the range to make sense: its ends or choices."""


@dataclass(frozen=True)
class Between(Range):
    """Numbers from `low` to `high`, both included; a setting of whole numbers gets whole ones."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuses ends that enclose nothing."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise UsageError(f"{self} has an end that is not finite")
        if self.low >= self.high:
            raise UsageError(f"{self} is empty (expected LOW below HIGH)")

    def __str__(self) -> str:
        name = next(name for name, kind in SCALES.items() if kind is type(self))
        return f"{name}:{self.low:g}:{self.high:g}"

    def holds(self, value: Any) -> bool:
        """Whether a value is a number between the ends."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def within(self, value: float) -> float:
        """The nearest value of the range; it undoes the rounding of a detour."""
        return min(max(value, self.low), self.high)

    @property
    def examples(self) -> tuple[float, ...]:
        """Both ends."""
        return self.low, self.high


class Uniform(Between):
    """Every number between the ends is equally likely."""

    def at(self, share: float) -> float:
        """low + share (high - low)."""
        return self.low + share * (self.high - self.low)


class Log(Between):
    """Every order of magnitude is equally likely: step sizes, weights, widths."""

    def __post_init__(self) -> None:
        """Refuses ends that have no logarithm."""
        super().__post_init__()
        if self.low <= 0:
            raise UsageError(f"{self} reaches {self.low:g} (expected LOW above 0)")

    def at(self, share: float) -> float:
        """low (high / low)^share."""
        return float(self.low * (self.high / self.low) ** share)


class NearOne(Between):
    """The distance to 1 is spread over orders of magnitude: discounts, lambdas, decays."""

    def __post_init__(self) -> None:
        """Refuses ends outside [0, 1)."""
        super().__post_init__()
        if self.low < 0 or self.high >= 1:
            raise UsageError(f"{self} leaves [0, 1) (expected 0 <= LOW < HIGH < 1)")

    def at(self, share: float) -> float:
        """1 - (1 - low) ((1 - high) / (1 - low))^share."""
        return 1 - self.rest.at(1 - share)

    @property
    def rest(self) -> Log:
        """The range of 1 minus the value."""
        return Log(1 - self.high, 1 - self.low)


@dataclass(frozen=True, init=False)
class OneOf(Range):
    """A few values, all equally likely."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)
        if len(set(map(repr, values))) < 2:
            raise UsageError(f"{self} leaves no choice (expected two or more different values)")

    def __str__(self) -> str:
        return ":".join(("one_of", *map(str, self.values)))

    def at(self, share: float) -> Any:
        """The value at an index."""
        return self.values[int(share * len(self.values))]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them; True is not 1."""
        return any(one == value and type(one) is type(value) for one in self.values)

    @property
    def examples(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values


SCALES: dict[str, type[Between]] = {"log": Log, "uniform": Uniform, "near_one": NearOne}
FORMS = "log:LOW:HIGH, uniform:LOW:HIGH, near_one:LOW:HIGH or one_of:VALUE:VALUE:..."


def read_range(text: str, read: Callable[[str], Any]) -> Range:
    """The range that a text such as `log:1e-5:1e-2` or `one_of:64:128` stands for.

    Args:
        read: turns the text of one value into the value.
    Raises:
        UsageError: the text has another form, or the range is empty.
    """
    name, *parts = text.split(":")
    if name != "one_of" and name not in SCALES:
        raise unknown("range", name, (*SCALES, "one_of"))
    if name == "one_of":
        return OneOf(*map(read, parts))
    return SCALES[name](*_ends(text, parts))


def _ends(text: str, parts: Sequence[str]) -> tuple[float, float]:
    try:
        low, high = map(float, parts)
    except ValueError:
        raise UsageError(f"{text} is no range (expected {FORMS})") from None
    return low, high
