"""One step of some memories in NumPy, for acting: at these sizes a torch operation costs more than
its arithmetic (benchmarks/collecting.py)."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]


class ArrayStep(Protocol):
    """A memory's step in NumPy; it holds its state, between two calls of `load`."""

    def load(self, leaves: Sequence[Tensor]) -> None:
        """Sets the state: the leaves of the memory's carry."""

    def step(self, x: Floats, reset: NDArray[np.bool_]) -> Floats:
        """`[B, D]` and the resets `[B]` to `[B, H]`, which the next call overwrites."""


def has_arrays(memory: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a memory is exactly of this class, whose step the arrays below know, and its weights
    can be read as float32 arrays."""
    return type(memory) is kind and all(
        weight.device.type == "cpu" and weight.dtype == torch.float32
        for weight in memory.parameters()
    )


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


class GatedBlocks:
    """The step of `retain.memory.MinGRU`.

    Args:
        embed: weight `[H, D]` and bias of the first layer.
        kernel: `[k, H]` weights of the convolution.
        blocks: for each block the weight and bias of its normalisation and of its gates.
        norm: weight and bias of the last normalisation.
    """

    def __init__(
        self,
        embed: Sequence[Tensor],
        kernel: Tensor,
        blocks: Sequence[Sequence[Tensor]],
        norm: Sequence[Tensor],
        rows: int,
    ) -> None:
        self.embed, self.norm = _views(embed), _views(norm)
        self.kernel = kernel.detach().numpy()
        self.blocks = [_views(block) for block in blocks]
        steps, H = self.kernel.shape
        self.states = np.zeros((len(blocks), rows, H), np.float32)
        self.window = np.zeros((rows, steps, H), np.float32)
        """The convolution's last steps, the current one last."""

    def load(self, leaves: Sequence[Tensor]) -> None:
        """See `ArrayStep`."""
        carry, layers = leaves[0].numpy(), len(self.blocks)
        self.states[:] = carry[:, :layers].swapaxes(0, 1)
        self.window[:, 1:] = carry[:, layers:]

    def step(self, x: Floats, reset: NDArray[np.bool_]) -> Floats:
        """See `ArrayStep`."""
        window = self.window
        if reset.any():
            self.states[:, reset], window[reset] = 0.0, 0.0
        window[:, :-1] = window[:, 1:]
        weight, bias = self.embed
        window[:, -1] = x @ weight.T + bias
        x = window[:, -1] + _silu((window * self.kernel).sum(1))
        H = x.shape[1]
        for state, (scale, shift, into, bias) in zip(self.states, self.blocks, strict=True):
            gates = _normalised(x, scale, shift) @ into.T + bias
            z = np.tanh(0.5 * gates[:, :H])
            z += 1.0
            z *= 0.5
            z *= gates[:, 2 * H :] - state
            state += z
            x = x + state * _silu(gates[:, H : 2 * H])
        return _normalised(x, *self.norm)


class ComplexStates:
    """The step of `retain.memory.LRU`.

    Args:
        layers: for each layer its decay `[N, 2]`, the weights `[2 N, D]` of what enters and
            `[H, 2 N + D]` of what is read, and the latter's bias.
        norms: weight and bias of the normalisation before each layer but the first.
    """

    def __init__(
        self, layers: Sequence[Sequence[Tensor]], norms: Sequence[Sequence[Tensor]], rows: int
    ) -> None:
        self.norms = [(), *(_views(norm) for norm in norms)]
        self.layers = [
            (decay.detach().numpy().view(np.complex64)[:, 0], *_views(others))
            for decay, *others in layers
        ]
        self.states = [np.zeros((rows, len(decay)), np.complex64) for decay, *_ in self.layers]

    def load(self, leaves: Sequence[Tensor]) -> None:
        """See `ArrayStep`."""
        for layer, state in enumerate(self.states):
            state.view(np.float32)[:] = leaves[0][:, layer].numpy()

    def step(self, x: Floats, reset: NDArray[np.bool_]) -> Floats:
        """See `ArrayStep`."""
        clears = bool(reset.any())
        for number, (state, layer) in enumerate(zip(self.states, self.layers, strict=True)):
            decay, enter, leave, bias = layer
            if clears:
                state[reset] = 0.0
            seen = _silu(_normalised(x, *self.norms[number])) if number else x
            state *= decay
            pairs: Any = state.view(np.float32)
            pairs += seen @ enter.T
            y = np.concatenate((pairs, seen), 1) @ leave.T + bias
            x = x + y if number else y
        return x


def _views(tensors: Sequence[Tensor]) -> tuple[Floats, ...]:
    return tuple(tensor.detach().numpy() for tensor in tensors)


def _silu(x: Floats) -> Floats:
    y: Floats = np.tanh(0.5 * x)
    y += 1.0
    y *= 0.5
    y *= x
    return y


def _normalised(x: Floats, scale: Floats, shift: Floats) -> Floats:
    """Layer normalisation, with torch's own constant."""
    share = np.float32(1 / x.shape[1])
    mean: Any = np.add.reduce(x, 1, keepdims=True) * share  # as x.mean, in half its time
    x = x - mean
    spread: Any = np.einsum("bh,bh->b", x, x)[:, None]
    spread *= share
    spread += np.float32(1e-5)
    x /= np.sqrt(spread)
    x *= scale
    x += shift
    return x
