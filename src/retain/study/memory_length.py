"""Measures how far back an agent's memory matters, by its return when the memory is cleared."""

from collections.abc import Mapping, Sequence

from retain.train.agent import Agent

CLEARINGS = (1, 2, 4, 8, 16, 32, 64)
WHOLE = "never"


def returns_when_cleared(
    agent: Agent, every: Sequence[int], episodes: int, seed: int = 7
) -> dict[str, float]:
    """Mean return of the same episodes with the carry cleared every 1, 2, 4, ... steps, and never.

    The agent still sees the observation and loses only its carry.
    """
    found = {str(k): agent.evaluate(episodes, seed=seed, clear_every=k).return_mean for k in every}
    return found | {WHOLE: agent.evaluate(episodes, seed=seed).return_mean}


def effective_length(cleared: Mapping[str, float]) -> float | None:
    """The number of steps of memory that give half of its benefit. This is half of the clearing
    interval at which the return is half way between clearing at every step and never clearing.

    None if memory makes no difference, which means that the two returns are within 2 % of each
    other.
    """
    none, whole = cleared["1"], cleared[WHOLE]
    if whole - none <= 0.02 * max(abs(whole), abs(none), 1e-9):
        return None
    half = (none + whole) / 2
    points = [(int(k), value) for k, value in cleared.items() if k != WHOLE]
    before = points[0]
    for point in points[1:]:
        if point[1] >= half:
            share = (half - before[1]) / (point[1] - before[1])
            return (before[0] + share * (point[0] - before[0])) / 2
        before = point
    return points[-1][0] / 2
