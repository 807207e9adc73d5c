"""What an agent remembers with."""

from collections.abc import Callable
from typing import Literal

from retain.errors import unknown
from retain.memory.base import Memory, NoMemory, clear, step_loop
from retain.memory.recurrent import GRU, LSTM
from retain.memory.window import Summary, Window

MemoryKind = Literal["none", "lstm", "gru", "window"]

MEMORIES: dict[str, Callable[..., Memory]] = {
    "none": lambda features_in, **_: NoMemory(features_in),
    "lstm": lambda features_in, hidden, layers, **_: LSTM(features_in, hidden, layers),
    "gru": lambda features_in, hidden, layers, **_: GRU(features_in, hidden, layers),
    "window": lambda features_in, hidden, window, summary, **_: Window(
        features_in, hidden, window, summary
    ),
}


def make_memory(
    kind: str,
    features_in: int,
    hidden: int,
    layers: int = 1,
    *,
    window: int = 8,
    summary: Summary = "lstm",
) -> Memory:
    """The memory called `kind`.

    Args:
        layers: of a recurrence.
        window: entries that a window holds.
        summary: of a window.
    Raises:
        UsageError: there is none of that name; the line gives the nearest.
    """
    if kind not in MEMORIES:
        raise unknown("memory", kind, MEMORIES)
    return MEMORIES[kind](features_in, hidden=hidden, layers=layers, window=window, summary=summary)


__all__ = [
    "GRU",
    "LSTM",
    "MEMORIES",
    "Memory",
    "MemoryKind",
    "NoMemory",
    "Summary",
    "Window",
    "clear",
    "make_memory",
    "step_loop",
]
