"""LSTM and GRU over the timeline: one fused call a layer, whatever the resets."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from retain.memory.base import Memory, clear
from retain.memory.unroll import GATE, Flush, Split, from_slots, plan, to_slots
from retain.types import Carry


class Recurrent(Memory):
    """Layers of a gated recurrence; the carry's leaves are `[B, layers, hidden]`.

    Weights are orthogonal and biases zero, as is usual for recurrent policies (the forget gate
    starts half open). Values far above 1e4 times the weights, or NaN, in a cleared episode's state
    are not forgotten exactly; anything finite that a network produces is.

    Args:
        features_in: D, width of the input.
        hidden: H, width of the state and of the output.
        layers: recurrences on top of each other.
    """

    gates: int
    states: int
    receptive_field = None

    def __init__(self, features_in: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.features_in, self.features, self.layers = features_in, hidden, layers
        self.weights_in = nn.ParameterList()
        self.weights_hidden = nn.ParameterList()
        self.biases_in = nn.ParameterList()
        self.biases_hidden = nn.ParameterList()
        for layer in range(layers):
            width = hidden if layer else features_in
            for weights, wide in ((self.weights_in, width), (self.weights_hidden, hidden)):
                weight = torch.empty(self.gates * hidden, wide)
                for gate in weight.split(hidden):
                    nn.init.orthogonal_(gate)
                weights.append(nn.Parameter(weight))
            for biases in (self.biases_in, self.biases_hidden):
                biases.append(nn.Parameter(torch.zeros(self.gates * hidden)))

    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros, one leaf `[batch_size, layers, hidden]` for each state of the recurrence."""
        weight = self.weights_hidden[0]
        shape = (batch_size, self.layers, self.features)
        return tuple(weight.new_zeros(shape) for _ in range(self.states))

    def forward(self, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
        """`[T, B, D]` to `[T, B, H]` and the carry after the last step."""
        layout = plan(reset)
        leaves: tuple[Tensor, ...] = clear(carry, reset[0])  # type: ignore[assignment]
        ends: list[tuple[Tensor, ...]] = []
        for layer in range(self.layers):
            state = tuple(leaf[:, layer] for leaf in leaves)
            if layout is None:
                x, end = self._call(layer, x, state, None)
            elif isinstance(layout, Flush):
                x, end = self._flushed(layer, x, state, layout)
            else:
                x, end = self._split(layer, x, state, layout)
            ends.append(end)
        if self.layers == 1:
            return x, tuple(leaf.unsqueeze(1) for leaf in ends[0])
        return x, tuple(torch.stack(leaf, dim=1) for leaf in zip(*ends, strict=True))

    @abstractmethod
    def _call(
        self, layer: int, x: Tensor, state: Sequence[Tensor], flag: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One fused call over `[S, N, D]` without resets: outputs, and the state at the end.

        `flag` `[S, N]` marks flush (1) and hold (2) steps.
        """

    def _flushed(
        self, layer: int, x: Tensor, state: Sequence[Tensor], layout: Flush
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        out, end = self._call(layer, to_slots(x, layout), state, layout.flag)
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
        hold: Tensor | None = None
        if self.states > 1:
            steps = torch.arange(layout.length, device=x.device).unsqueeze(1)
            hold = 2 * (steps > layout.last_step).long()
        out, end = self._call(layer, to_slots(x, layout), rows, hold)
        out = from_slots(out, layout)
        return out, (out[-1], *(leaf.index_select(0, layout.last) for leaf in end[1:]))


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), carry (h, c).

    i, f, o = sigmoid(W x + U h + b),  g = tanh(W x + U h + b)
    c' = f c + i g,  h' = o tanh(c')
    """

    gates, states = 4, 2

    def _call(
        self, layer: int, x: Tensor, state: Sequence[Tensor], flag: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        weight = self.weights_in[layer]
        if flag is not None:
            # flush: i = f = o = 0, so c' = h' = 0. hold: i = 0, f = 1, so c' = c.
            x = torch.cat((x, (flag == 1).unsqueeze(-1), (flag == 2).unsqueeze(-1)), dim=-1)
            rows = torch.tensor([[-1, -1], [-1, 1], [0, 0], [-1, 0]], device=x.device)
            columns = (rows * GATE).to(weight.dtype).repeat_interleave(self.features, dim=0)
            weight = torch.cat((weight, columns), dim=1)
        out, h, c = torch.lstm(
            x.contiguous(),
            [leaf.unsqueeze(0).contiguous() for leaf in state],
            [weight, self.weights_hidden[layer], self.biases_in[layer], self.biases_hidden[layer]],
            True,
            1,
            0.0,
            self.training,
            False,
            False,
        )
        return out, (h[0], c[0])


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), carry (h,).

    r, z = sigmoid(W x + b + U h + d),  n = tanh(W x + b + r (U h + d))
    h' = (1 - z) n + z h
    """

    gates, states = 3, 1

    def _call(
        self, layer: int, x: Tensor, state: Sequence[Tensor], flag: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        weight, bias = self.weights_in[layer], self.biases_in[layer]
        if flag is not None:
            # flush: r = z = 0 and n = tanh(0), so h' = 0. The input's bias must then be absent, so
            # it becomes the weight of a feature that is 1 on the other steps.
            flush = (flag == 1).to(x.dtype).unsqueeze(-1)
            x = torch.cat((x, flush, 1 - flush), dim=-1)
            close = torch.tensor([-GATE, -GATE, 0.0], dtype=weight.dtype, device=x.device)
            columns = (close.repeat_interleave(self.features), bias)
            weight = torch.cat((weight, torch.stack(columns, dim=1)), dim=1)
            bias = torch.zeros_like(bias)
        out, h = torch.gru(
            x.contiguous(),
            state[0].unsqueeze(0).contiguous(),
            [weight, self.weights_hidden[layer], bias, self.biases_hidden[layer]],
            True,
            1,
            0.0,
            self.training,
            False,
            False,
        )
        return out, (h[0],)
