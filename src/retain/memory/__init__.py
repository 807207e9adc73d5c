"""What an agent remembers with."""

from collections.abc import Callable

from retain.errors import unknown
from retain.memory.base import Memory, NoMemory, clear, step_loop
from retain.memory.recurrent import GRU, LSTM

MEMORIES: dict[str, Callable[[int, int, int], Memory]] = {
    "none": lambda features_in, hidden, layers: NoMemory(features_in),
    "lstm": LSTM,
    "gru": GRU,
}


def make_memory(kind: str, features_in: int, hidden: int, layers: int = 1) -> Memory:
    """The memory called `kind`.

    Raises:
        UsageError: there is none of that name; the line gives the nearest.
    """
    if kind not in MEMORIES:
        raise unknown("memory", kind, MEMORIES)
    return MEMORIES[kind](features_in, hidden, layers)


__all__ = ["GRU", "LSTM", "MEMORIES", "Memory", "NoMemory", "clear", "make_memory", "step_loop"]
