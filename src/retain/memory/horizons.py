"""Gates that hold for different times from the start."""

import math

import torch
from torch import Tensor

from retain.errors import UsageError


def spread_horizons(count: int, shortest: float, longest: float) -> Tensor:
    """`[count]` biases b with sigmoid(b) = 1 / h, for horizons h evenly spaced in logarithm.

    Tallec and Ollivier 2018 (arXiv:1804.11188) draw them at random.

    Raises:
        UsageError: the horizons do not satisfy 1 < shortest <= longest.
    """
    if not 1 < shortest <= longest:
        raise UsageError(
            f"horizons are {shortest:g} to {longest:g} (expected 1 < shortest <= longest)"
        )
    horizon = torch.logspace(math.log10(shortest), math.log10(longest), count)
    return -torch.log(horizon - 1)
