"""Proportional priorities for sampling from a replay (Schaul et al. 2016, arXiv:1511.05952)."""

import numpy as np
from numpy.typing import NDArray


class SumTree:
    """Non-negative weights of n slots, sampled in proportion; draws and changes many at once.

    A complete binary tree in one array: node i is the sum of nodes 2i and 2i + 1.

    Args:
        size: n, number of slots.
    """

    def __init__(self, size: int) -> None:
        self.leaves = 1 << max(size - 1, 1).bit_length()
        self.nodes = np.zeros(2 * self.leaves)

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self.nodes[1])

    def get(self, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weights of `slots`."""
        return self.nodes[slots + self.leaves]

    def set(self, slots: NDArray[np.int64], weights: NDArray[np.float64] | float) -> None:
        """Replaces weights; if a slot occurs twice, the last weight counts."""
        node = slots + self.leaves
        self.nodes[node] = weights
        node = np.unique(node >> 1)
        while node[0] >= 1:
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]
            if node[0] == 1:
                break
            node = np.unique(node >> 1)

    def find(self, mass: NDArray[np.float64]) -> NDArray[np.int64]:
        """The slots where the running sum of weights passes `mass`, each in [0, total)."""
        node = np.ones(len(mass), dtype=np.int64)
        mass = mass.copy()
        while node[0] < self.leaves:
            node *= 2
            left = self.nodes[node]
            right = mass >= left
            # Rounding may lead into a branch that holds nothing: its sibling is meant.
            right &= self.nodes[node + 1] > 0
            mass -= np.where(right, left, 0.0)
            node += right
        return node - self.leaves
