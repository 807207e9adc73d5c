"""One step of an LSTM or a GRU in NumPy, for acting; a torch call costs five times as much at these
sizes."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]


class ArrayStep(Protocol):
    """A memory's step in NumPy; it holds its state, between two calls of `load`."""

    def load(self, leaves: Sequence[Tensor]) -> None:
        """Sets the state: the leaves of the memory's carry."""

    def step(self, x: Floats, reset: NDArray[np.bool_]) -> Floats:
        """`[B, D]` and the resets `[B]` to `[B, H]`, which the next call overwrites."""


class NoStep:
    """The step of no memory."""

    def load(self, leaves: Sequence[Tensor]) -> None:
        """There is nothing to load."""

    def step(self, x: Floats, reset: NDArray[np.bool_]) -> Floats:
        """`x` itself."""
        return x


class Cells:
    """Layers of cells whose states are `[B, H]` arrays.

    Args:
        layers: W `[G H, D]`, U `[G H, H]`, b and d `[G H]` of each layer.
        states: number of states of a cell.
        rows: B.
    """

    def __init__(self, layers: Sequence[Sequence[Tensor]], states: int, rows: int) -> None:
        self.layers = [tuple(x.detach().numpy() for x in layer) for layer in layers]
        H = self.layers[0][1].shape[1]
        self.state: list[list[Floats]] = [
            [np.zeros((rows, H), np.float32) for _ in range(states)] for _ in layers
        ]

    def load(self, leaves: Sequence[Tensor]) -> None:
        """See `ArrayStep`; leaves `[B, layers, H]`."""
        for layer, states in enumerate(self.state):
            for state, leaf in zip(states, leaves, strict=True):
                state[:] = leaf[:, layer].numpy()

    def step(self, x: Floats, reset: NDArray[np.bool_]) -> Floats:
        """See `ArrayStep`."""
        clears = bool(reset.any())
        for number, states in enumerate(self.state):
            if clears:
                for state in states:
                    state[reset] = 0.0
            x = self.cell(number, x, states)
        return x

    def cell(self, number: int, x: Floats, states: list[Floats]) -> Floats:
        """A layer's output, and its states changed in place."""
        raise NotImplementedError


class LSTMCells(Cells):
    """`retain.memory.LSTM`'s cells. sigmoid(a) is (1 + tanh(a / 2)) / 2, so that one call of tanh
    serves all gates."""

    def __init__(self, layers: Sequence[Sequence[Tensor]], rows: int) -> None:
        super().__init__(layers, 2, rows)
        self.products: list[Any] = []
        for W, U, b, d in self.layers:
            H = U.shape[1]
            half = np.full((4 * H, 1), 0.5, np.float32)  # rows i, f, g, o
            half[2 * H : 3 * H] = 1.0
            weight = np.ascontiguousarray((np.concatenate((W, U), 1) * half).T)
            gates = np.empty((rows, 4 * H), np.float32)
            both = np.empty((rows, len(weight)), np.float32)
            views = [gates[:, n * H : (n + 1) * H] for n in range(4)]
            bias = (b + d) * half[:, 0]
            self.products.append((weight, bias, both, gates, views))

    def cell(self, number: int, x: Floats, states: list[Floats]) -> Floats:
        """See `Cells`."""
        weight, bias, both, gates, (i, f, g, o) = self.products[number]
        h, c = states
        D = x.shape[1]
        both[:, :D], both[:, D:] = x, h
        np.matmul(both, weight, gates)
        np.add(gates, bias, gates)
        np.tanh(gates, gates)
        f += 1.0
        f *= 0.5
        i += 1.0
        i *= 0.5
        i *= g
        c *= f
        c += i
        o += 1.0
        o *= 0.5
        np.tanh(c, h)
        h *= o
        return h


class GRUCells(Cells):
    """`retain.memory.GRU`'s cells."""

    def __init__(self, layers: Sequence[Sequence[Tensor]], rows: int) -> None:
        super().__init__(layers, 1, rows)

    def cell(self, number: int, x: Floats, states: list[Floats]) -> Floats:
        """See `Cells`."""
        W, U, b, d = self.layers[number]
        (h,) = states
        H = h.shape[1]
        into, hidden = x @ W.T + b, h @ U.T + d
        gates = 0.5 + 0.5 * np.tanh(0.5 * (into[:, : 2 * H] + hidden[:, : 2 * H]))
        n = np.tanh(into[:, 2 * H :] + gates[:, :H] * hidden[:, 2 * H :])
        h -= n
        h *= gates[:, H:]
        h += n
        return h
