"""One seed per episode, derived from the run's seed; nothing else decides how an episode starts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


def _mix(x: Any) -> Any:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit moves every output bit.

    Wraps around on purpose; the caller silences NumPy's overflow warning.
    """
    x = x + _GOLDEN
    x = (x ^ (x >> _SHIFTS[0])) * _MIX[0]
    x = (x ^ (x >> _SHIFTS[1])) * _MIX[1]
    return x ^ (x >> _SHIFTS[2])


def episode_seed(
    run_seed: int, env_index: NDArray[np.int64], episode: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Derives the seeds of episodes, non-negative 31-bit integers that any simulator takes.

    Args:
        run_seed: the run's seed.
        env_index: `[B]` indices of the environments.
        episode: `[B]` number of each environment's episode, from 0.
    Returns:
        `[B]` seeds, the same for the same three numbers on any machine and any backend.
    """
    with np.errstate(over="ignore"):
        mixed = _mix(np.uint64(run_seed & 0xFFFFFFFFFFFFFFFF))
        mixed = _mix(mixed ^ env_index.astype(np.uint64))
        mixed = _mix(mixed ^ episode.astype(np.uint64))
    seeds: NDArray[np.int64] = (mixed >> np.uint64(33)).astype(np.int64)
    return seeds
