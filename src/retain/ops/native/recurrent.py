"""LSTM and GRU over the timeline, with resets built in: one call forward, one backward."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from retain.ops.native.library import library, threads_for


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """`a.T @ b` for contiguous `[rows, M]` and `[rows, N]`, the gradient of a weight."""
    rows, M, N = len(a), a.shape[1], b.shape[1]
    out = a.new_empty(M, N)
    library().outer_sum(
        rows, M, N, a.data_ptr(), b.data_ptr(), out.data_ptr(), threads_for(rows * M * N)
    )
    return out


def _single_step(state: Tensor, reset: Tensor, weight: Tensor, add: Tensor) -> Tensor:
    """A single step's U h + `add`. The kernels arrange U for a product that repeats; one product is
    faster without."""
    return torch.addmm(add, state.masked_fill(reset[0].unsqueeze(-1), 0.0), weight.t())


def _into_weights(into: Tensor, *beside: Tensor) -> list[Tensor]:
    """The gradients of the weights of each of `beside` `[T, N, ...]`, and of a bias, from that of
    their sum, `into` `[T, N, W]`: all of them in one product."""
    columns = torch.cat((*beside, into.new_ones(*into.shape[:2], 1)), dim=-1)
    found = transposed_product(into.flatten(0, 1), columns.flatten(0, 1))
    *weights, bias = torch.split_with_sizes(found, [*(one.shape[-1] for one in beside), 1], dim=1)
    return [*(weight.contiguous() for weight in weights), bias.flatten()]


def _read(out: Tensor, h: Tensor, reset: Tensor) -> Tensor:
    """The state that each step really read, `[T, N, H]`."""
    before = torch.cat((h.unsqueeze(0), out[:-1]))
    before.flatten(0, 1).index_fill_(0, reset.flatten().nonzero().squeeze(1), 0.0)
    return before


def _lstm(
    x: Tensor, weight: Tensor, recurrent: Tensor, b: Tensor, d: Tensor, h: Tensor, c: Tensor,
    reset: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Outputs, cells, tanh of the cells `[T, N, H]`, and gates `[T, N, 4 H]`."""
    T, N, _ = x.shape
    H = h.shape[-1]
    gates = F.linear(x, weight, b + d)
    if T == 1:
        gates = _single_step(h, reset, recurrent, gates[0]).unsqueeze(0)
    out, cells, squashed = (x.new_empty(T, N, H) for _ in range(3))
    library().lstm_forward(
        T, N, H, gates.data_ptr(), None if T == 1 else recurrent.data_ptr(), h.data_ptr(),
        c.data_ptr(), reset.data_ptr(), cells.data_ptr(), squashed.data_ptr(),
        out.data_ptr(), threads_for(T * N * H * 4 * H, T) if T > 1 else 1,
    )  # fmt: skip
    return out, cells, squashed, gates


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        kept = _lstm(*inputs)
        x, weight, recurrent, _, _, h, c, reset = inputs
        ctx.save_for_backward(x, weight, recurrent, h, c, reset, *kept)
        return kept[0], kept[1][-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_out: Tensor, into_c: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, recurrent, h, c, reset, out, cells, squashed, gates = ctx.saved_tensors
        T, N, H = out.shape
        into_out, into_pre = into_out.contiguous(), torch.empty_like(gates)
        flow_h, flow_c = torch.zeros_like(h), into_c.clone(memory_format=torch.contiguous_format)
        library().lstm_backward(
            T, N, H, recurrent.data_ptr(), c.data_ptr(), reset.data_ptr(), gates.data_ptr(),
            cells.data_ptr(), squashed.data_ptr(), into_out.data_ptr(), into_pre.data_ptr(),
            flow_h.data_ptr(), flow_c.data_ptr(), threads_for(T * N * H * 4 * H, T),
        )  # fmt: skip
        into_x = into_pre @ weight if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return into_x, None, None, None, None, flow_h, flow_c, None
        into_w, into_u, bias = _into_weights(into_pre, x, _read(out, h, reset))
        return into_x, into_w, into_u, bias, bias.clone(), flow_h, flow_c, None


def lstm(
    x: Tensor, h: Tensor, c: Tensor, reset: Tensor, weights: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """A long short-term memory (Hochreiter and Schmidhuber 1997); gates are in torch's order i, f,
    g, o.

    i, f, o = sigmoid(W x + b + U h + d),  g = tanh(W x + b + U h + d)
    c' = f c + i g,  h' = o tanh(c')

    Args:
        x: `[T, N, D]`, float32 on a CPU, as are all others.
        h, c: `[N, H]` state before the first step.
        reset: `[T, N]` bool; there zeros replace the state before the step, and no gradient passes.
        weights: W `[4 H, D]`, U `[4 H, H]`, b and d `[4 H]`.
    Returns:
        outputs h `[T, N, H]` and the last cell `[N, H]`.
    Raises:
        NativeError: the kernels cannot be built.
    """
    inputs = [one.contiguous() for one in (x, *weights, h, c, reset)]
    if torch.is_grad_enabled():
        found: tuple[Tensor, Tensor] = _LSTM.apply(*inputs)  # type: ignore[no-untyped-call]
        return found
    out, cells, *_ = _lstm(*inputs)
    return out, cells[-1]


def _gru(
    x: Tensor, weight: Tensor, recurrent: Tensor, b: Tensor, d: Tensor, h: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the candidate's part of U h + d `[T, N, H]`, and gates `[T, N, 3 H]`."""
    T, N, _ = x.shape
    H = h.shape[-1]
    gates = F.linear(x, weight, b)
    out, hidden = x.new_empty(T, N, H), x.new_empty(T, N, H)
    if T == 1:
        d = _single_step(h, reset, recurrent, d)
    library().gru_forward(
        T, N, H, gates.data_ptr(), None if T == 1 else recurrent.data_ptr(), d.data_ptr(),
        h.data_ptr(), reset.data_ptr(), hidden.data_ptr(), out.data_ptr(),
        threads_for(T * N * H * 3 * H, T) if T > 1 else 1,
    )  # fmt: skip
    return out, hidden, gates


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        kept = _gru(*inputs)
        x, weight, recurrent, _, _, h, reset = inputs
        ctx.save_for_backward(x, weight, recurrent, h, reset, *kept)
        return kept[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, recurrent, h, reset, out, hidden, gates = ctx.saved_tensors
        T, N, H = out.shape
        into_out, flow = into_out.contiguous(), torch.zeros_like(h)
        into_pre, into_hidden = torch.empty_like(gates), torch.empty_like(gates)
        library().gru_backward(
            T, N, H, recurrent.data_ptr(), h.data_ptr(), reset.data_ptr(), gates.data_ptr(),
            hidden.data_ptr(), out.data_ptr(), into_out.data_ptr(), into_pre.data_ptr(),
            into_hidden.data_ptr(), flow.data_ptr(), threads_for(T * N * H * 3 * H, T),
        )  # fmt: skip
        into_x = into_pre @ weight if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return into_x, None, None, None, None, flow, None
        into_w, into_b = _into_weights(into_pre, x)
        into_u, into_d = _into_weights(into_hidden, _read(out, h, reset))
        return into_x, into_w, into_u, into_b, into_d, flow, None


def gru(
    x: Tensor, h: Tensor, reset: Tensor, weights: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Tensor:
    """The states `[T, N, H]` of a gated recurrent unit (Cho et al. 2014); gates are in torch's
    order r, z, n.

    r, z = sigmoid(W x + b + U h + d),  n = tanh(W x + b + r (U h + d)),  h' = (1 - z) n + z h

    Args:
        x: `[T, N, D]`, float32 on a CPU, as are all others.
        h: `[N, H]` state before the first step.
        reset: `[T, N]` bool; there zeros replace the state before the step, and no gradient passes.
        weights: W `[3 H, D]`, U `[3 H, H]`, b and d `[3 H]`.
    Raises:
        NativeError: the kernels cannot be built.
    """
    inputs = [one.contiguous() for one in (x, *weights, h, reset)]
    if torch.is_grad_enabled():
        found: Tensor = _GRU.apply(*inputs)  # type: ignore[no-untyped-call]
        return found
    return _gru(*inputs)[0]
