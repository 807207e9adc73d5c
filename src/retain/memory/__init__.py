"""Memories: the parts of an agent that remember."""

from retain.memory.attention import BandedAttention
from retain.memory.base import Memory, NoMemory, StepMemory, clear, start_again, step_loop
from retain.memory.delta import GatedDelta
from retain.memory.lru import LRU
from retain.memory.mingru import MinGRU
from retain.memory.recurrent import GRU, LSTM
from retain.memory.registry import (
    MEMORIES,
    make_memory,
    memory_class,
    memory_name,
    register_memory,
)
from retain.memory.window import Summary, Window

register_memory("none")(NoMemory)

__all__ = [
    "GRU",
    "LRU",
    "LSTM",
    "MEMORIES",
    "BandedAttention",
    "GatedDelta",
    "Memory",
    "MinGRU",
    "NoMemory",
    "StepMemory",
    "Summary",
    "Window",
    "clear",
    "make_memory",
    "memory_class",
    "memory_name",
    "register_memory",
    "start_again",
    "step_loop",
]
