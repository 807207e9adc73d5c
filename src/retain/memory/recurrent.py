"""LSTM and GRU over the timeline: one fused call per layer, whatever the resets."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, TypeAlias

import torch
from torch import Tensor, nn

from retain.errors import UsageError
from retain.memory.arrays import ArrayStep, GRUCells, LSTMCells, has_arrays
from retain.memory.base import Memory, clear
from retain.memory.horizons import spread_horizons
from retain.memory.registry import register_memory
from retain.memory.unroll import GATE, Flush, Split, from_slots, plan, to_slots
from retain.ops import native
from retain.ops.gru import gru
from retain.ops.products import linear
from retain.ranges import OneOf
from retain.types import Carry, tree_leaves

Unrolled: TypeAlias = tuple[Tensor, tuple[Tensor, ...]]
"""A layer's outputs `[T, B, H]`, and its state after the last step."""

SATURATED = 0.97
"""The |h| of a recurrent state beyond which its gates hardly move."""
Chrono = Annotated[int | None, OneOf(None, 20, 100, 500)]
"""A longest horizon in steps, or None for biases of zero."""


class Recurrent(Memory):
    """Layers of a gated recurrence; the carry's leaves are `[B, layers, hidden]`.

    Weights are orthogonal and biases zero, as is usual for recurrent policies (the forget gate
    starts half open). A cleared episode's state is forgotten exactly if it is finite and of the
    size that networks produce; NaN or values far above 1e4 times the weights are not.

    Args:
        features_in: D, width of the input.
        hidden: H, width of the state and of the output.
        layers: number of stacked recurrences.
        chrono: longest horizon, in steps. The biases of the gates that hold the state then spread
            the units' horizons from 2 steps to this one (Tallec and Ollivier 2018,
            arXiv:1804.11188), for tasks whose cues matter long afterwards. None leaves all biases
            zero.
        kernels: "native" unrolls float32 on a CPU with the compiled kernels, resets built in; they
            forget a cleared state whatever it holds.
    Raises:
        UsageError: the longest horizon is below 2.
    """

    gates: int
    states: int
    receptive_field = None

    def __init__(
        self,
        features_in: int,
        hidden: int,
        layers: int = 1,
        *,
        chrono: Chrono = None,
        kernels: native.Kernels = "torch",
    ) -> None:
        super().__init__()
        if chrono is not None and chrono < 2:
            raise UsageError(f"chrono is {chrono} (expected at least 2, or None)")
        self.features_in, self.features, self.layers = features_in, hidden, layers
        self.kernels = kernels
        for layer in range(layers):
            width = hidden if layer else features_in
            for name, shape in (
                ("weight_ih", (self.gates * hidden, width)),
                ("weight_hh", (self.gates * hidden, hidden)),
                ("bias_ih", (self.gates * hidden,)),
                ("bias_hh", (self.gates * hidden,)),
            ):
                parameter = nn.Parameter(torch.zeros(shape))
                for gate in torch.split(parameter.data, hidden) if len(shape) == 2 else ():
                    nn.init.orthogonal_(gate)
                self.register_parameter(f"{name}_l{layer}", parameter)
            if chrono is not None:
                bias = self._weights(layer)[2].data
                self._hold(bias.view(self.gates, hidden), spread_horizons(hidden, 2.0, chrono))

    @staticmethod
    @abstractmethod
    def _hold(bias: Tensor, shut: Tensor) -> None:
        """Sets the biases `[gates, H]` of a new recurrence so that each unit holds its state.

        Args:
            shut: `[H]` biases of a gate that lets in 1 / h at each step, where h is the unit's
                horizon.
        """

    def _weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A layer's W, U, b and d, named as in torch's own recurrent modules."""
        named = self._parameters
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple(named[f"{name}_l{layer}"] for name in names)  # type: ignore[return-value]

    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros, one leaf `[batch_size, layers, hidden]` for each state of the recurrence."""
        weight = self._weights(0)[1]
        shape = (batch_size, self.layers, self.features)
        return tuple(weight.new_zeros(shape) for _ in range(self.states))

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, H]` and the carry after the last step."""
        if torch.is_autocast_enabled(x.device.type):  # states lose too much in bfloat16
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float(), carry, reset)
        leaves: tuple[Tensor, ...] = carry  # type: ignore[assignment]
        if self.kernels == "native" and native.fits(x):
            return self._stacked(x, leaves, partial(self._native, reset=reset))
        return self._unroll(x, clear(leaves, reset[0]), plan(reset))  # type: ignore[arg-type]

    def from_zero(self, x: Tensor) -> Tensor:
        """The outputs `[T, B, H]` for `[T, B, D]` of one episode that begins at the first step."""
        zeros: tuple[Tensor, ...] = self.initial_carry(x.shape[1])  # type: ignore[assignment]
        if torch.is_autocast_enabled(x.device.type):  # as in `forward`
            with torch.autocast(x.device.type, enabled=False):
                return self._unroll(x.float(), zeros, None)[0]
        return self._unroll(x, zeros, None)[0]

    def _unroll(
        self, x: Tensor, leaves: tuple[Tensor, ...], layout: Flush | Split | None
    ) -> tuple[Tensor, Carry]:
        """`forward` for a carry that is cleared already, and the layout of the resets after it."""
        return self._stacked(x, leaves, partial(self._laid_out, layout=layout))

    def _stacked(
        self, x: Tensor, leaves: tuple[Tensor, ...], layer_of: Callable[..., Unrolled]
    ) -> tuple[Tensor, Carry]:
        """The layers one after another, `layer_of(layer, x, state)` each."""
        ends: list[tuple[Tensor, ...]] = []
        for layer in range(self.layers):
            x, end = layer_of(layer, x, tuple(leaf[:, layer] for leaf in leaves))
            ends.append(end)
        if self.layers == 1:
            return x, tuple(leaf.unsqueeze(1) for leaf in ends[0])
        return x, tuple(torch.stack(leaf, dim=1) for leaf in zip(*ends, strict=True))

    def _laid_out(
        self, layer: int, x: Tensor, state: Sequence[Tensor], layout: Flush | Split | None
    ) -> Unrolled:
        if x.shape[0] == 1:
            end = self._cell(layer, x[0], state)
            return end[0].unsqueeze(0), end
        if layout is None:
            return self._call(layer, x, state, None)
        if isinstance(layout, Flush):
            return self._flushed(layer, x, state, layout)
        return self._split(layer, x, state, layout)

    def metrics(self, carry: Carry) -> dict[str, float | Tensor]:
        """`saturation`: the share of the state h whose gates hardly move any more."""
        h = tree_leaves(carry)[0]
        return {"saturation": (h.abs() > SATURATED).float().mean()}

    @abstractmethod
    def _call(
        self, layer: int, x: Tensor, state: Sequence[Tensor], flags: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One fused call over `[S, N, D]` without resets: the outputs, and the state at the end.

        `flags` `[S, N, 2]` is 1 on flush and on hold steps.
        """

    @abstractmethod
    def _cell(self, layer: int, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The state after a single step `[N, D]`; torch's fused cell is faster than a sequence."""

    @abstractmethod
    def _native(
        self, layer: int, x: Tensor, state: Sequence[Tensor], reset: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The compiled kernel over `[T, N, D]` with its resets: the outputs, and the last state."""

    def _flushed(
        self, layer: int, x: Tensor, state: Sequence[Tensor], layout: Flush
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        out, end = self._call(layer, to_slots(x, layout), state, layout.flags)
        out = from_slots(out, layout)
        # A hold step keeps an LSTM's cell but not its output: that one is the last real step's.
        return out, (out[-1], *end[1:])

    def _split(
        self, layer: int, x: Tensor, state: Sequence[Tensor], layout: Split
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        rows = tuple(
            leaf.new_zeros(layout.pieces, self.features).index_copy(0, layout.first, leaf)
            for leaf in state
        )
        out, end = self._call(layer, to_slots(x, layout), rows, layout.flags)
        out = from_slots(out, layout)
        return out, (out[-1], *(leaf.index_select(0, layout.last) for leaf in end[1:]))


@register_memory("lstm")
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), carry (h, c).

    i, f, o = sigmoid(W x + U h + b),  g = tanh(W x + U h + b)
    c' = f c + i g,  h' = o tanh(c')
    """

    gates, states = 4, 2
    closing: Tensor

    def __init__(
        self,
        features_in: int,
        hidden: int,
        layers: int = 1,
        *,
        chrono: Chrono = None,
        kernels: native.Kernels = "torch",
    ) -> None:
        super().__init__(features_in, hidden, layers, chrono=chrono, kernels=kernels)
        # Rows i, f, g, o. flush: i = f = o = 0, so c' = h' = 0. hold: i = 0, f = 1, so c' = c.
        rows = torch.tensor([[-GATE, -GATE], [-GATE, GATE], [0.0, 0.0], [-GATE, 0.0]])
        self.register_buffer("closing", rows.repeat_interleave(hidden, dim=0), persistent=False)

    def array_step(self, rows: int) -> ArrayStep | None:
        """See `Memory`."""
        if not has_arrays(self, LSTM):
            return None
        return LSTMCells([self._weights(layer) for layer in range(self.layers)], rows)

    @staticmethod
    def _hold(bias: Tensor, shut: Tensor) -> None:
        bias[0], bias[1] = shut, -shut

    def _call(
        self, layer: int, x: Tensor, state: Sequence[Tensor], flags: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        weight, *others = self._weights(layer)
        if flags is not None:
            x = torch.cat((x, flags.to(x.dtype)), dim=-1)
            weight = torch.cat((weight, self.closing), dim=1)
        out, h, c = torch.lstm(
            x.contiguous(),
            [leaf.unsqueeze(0).contiguous() for leaf in state],
            [weight, *others],
            True,
            1,
            0.0,
            self.training,
            False,
            False,
        )
        return out, (h[0], c[0])

    def _cell(self, layer: int, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.lstm_cell(x, tuple(state), *self._weights(layer))

    def _native(
        self, layer: int, x: Tensor, state: Sequence[Tensor], reset: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, c = state
        out, cell = native.lstm(x, h, c, reset, self._weights(layer))
        return out, (out[-1], cell)


@register_memory("gru")
class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), carry (h,).

    r, z = sigmoid(W x + b + U h + d),  n = tanh(W x + b + r (U h + d))
    h' = (1 - z) n + z h
    """

    gates, states = 3, 1
    closing: Tensor

    def __init__(
        self,
        features_in: int,
        hidden: int,
        layers: int = 1,
        *,
        chrono: Chrono = None,
        kernels: native.Kernels = "torch",
    ) -> None:
        super().__init__(features_in, hidden, layers, chrono=chrono, kernels=kernels)
        # Rows r, z, n. flush: r = z = 0 and n = tanh(0), so h' = 0.
        rows = torch.tensor([[-GATE], [-GATE], [0.0]])
        self.register_buffer("closing", rows.repeat_interleave(hidden, dim=0), persistent=False)

    def array_step(self, rows: int) -> ArrayStep | None:
        """See `Memory`."""
        if not has_arrays(self, GRU):
            return None
        return GRUCells([self._weights(layer) for layer in range(self.layers)], rows)

    @staticmethod
    def _hold(bias: Tensor, shut: Tensor) -> None:
        bias[1] = -shut

    def _call(
        self, layer: int, x: Tensor, state: Sequence[Tensor], flags: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        weight, weight_hidden, bias, bias_hidden = self._weights(layer)
        if flags is not None:
            # The input's bias must be absent on flush steps, so it becomes the weight of a
            # feature that is 1 on the others.
            flush = flags[..., :1].to(x.dtype)
            x = torch.cat((x, flush, 1 - flush), dim=-1)
            weight = torch.cat((weight, self.closing, bias.unsqueeze(1)), dim=1)
            bias = torch.zeros_like(bias)
        if not (x.is_cuda or torch.compiler.is_compiling()):
            out = gru(linear(x, weight, bias), state[0], weight_hidden, bias_hidden)
            return out, (out[-1],)
        out, h = torch.gru(
            x.contiguous(),
            state[0].unsqueeze(0).contiguous(),
            [weight, weight_hidden, bias, bias_hidden],
            True,
            1,
            0.0,
            self.training,
            False,
            False,
        )
        return out, (h[0],)

    def _cell(self, layer: int, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (torch.gru_cell(x, state[0], *self._weights(layer)),)

    def _native(
        self, layer: int, x: Tensor, state: Sequence[Tensor], reset: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        out = native.gru(x, state[0], reset, self._weights(layer))
        return out, (out[-1],)
