"""What a memory is, by its name in a configuration."""

from retain.memory import MEMORIES

MEMORY_FIELDS = ("memory_hidden", "memory_layers", "window", "summary")
"""Settings that a memory may read."""

_READS = {
    "none": (),
    "lstm": ("memory_hidden", "memory_layers"),
    "gru": ("memory_hidden", "memory_layers"),
    "window": ("memory_hidden", "window", "summary"),
}
_BOUNDED = ("none", "window")


def memory_reads(memory: str) -> tuple[str, ...]:
    """Which of the `MEMORY_FIELDS` a memory reads."""
    return _READS.get(memory, MEMORY_FIELDS)


def unbounded(memory: str) -> bool:
    """Whether no window of steps holds everything that the memory may know."""
    return memory in MEMORIES and memory not in _BOUNDED
