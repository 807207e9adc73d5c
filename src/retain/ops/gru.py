"""A gated recurrence over time, with the derivative written out.

torch runs its GRU on a CPU as a graph of small operations, far slower than its fused LSTM. Here a
step takes six operations forward and seven backward; everything that does not depend on the
previous step is computed for all steps at once.
"""

from typing import Any

import torch
from torch import Tensor

from retain.ops.products import matmul


def _steps(pre: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Outputs `[T, N, H]`, and for each step the gates r and z `[T, N, 2 H]`, the candidate n, and
    U h + d `[T, N, 3 H]`."""
    T, N, width = pre.shape
    H = width // 3
    out, candidate = pre.new_empty(2, T, N, H).unbind(0)
    gates, hidden = pre.new_empty(T, N, 2 * H), pre.new_empty(T, N, width)
    turned = weight.t().contiguous()
    rows = zip(
        pre[..., : 2 * H].unbind(0), pre[..., 2 * H :].unbind(0), gates.unbind(0),
        gates[..., :H].unbind(0), gates[..., H:].unbind(0), hidden.unbind(0),
        hidden[..., : 2 * H].unbind(0), hidden[..., 2 * H :].unbind(0), candidate.unbind(0),
        out.unbind(0), strict=True,
    )  # fmt: skip
    for pre_rz, pre_n, rz, r, z, uh, uh_rz, uh_n, n, h in rows:
        torch.addmm(bias, state, turned, out=uh)
        torch.add(pre_rz, uh_rz, out=rz).sigmoid_()
        torch.addcmul(pre_n, r, uh_n, out=n).tanh_()
        state = torch.lerp(n, state, z, out=h)
    return out, gates, candidate, hidden


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out, *kept = _steps(pre, state, weight, bias)
        ctx.save_for_backward(state, weight, out, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        state, weight, out, gates, n, hidden = ctx.saved_tensors
        H = out.shape[-1]
        r, z = gates[..., :H], gates[..., H:]
        before = torch.cat((state.unsqueeze(0), out[:-1]))
        # What each step multiplies the gradient of its output with.
        to_z = (before - n).mul_(torch.addcmul(z, z, z, value=-1))
        to_n = torch.addcmul(1 - z, 1 - z, n * n, value=-1)
        to_r = torch.addcmul(r, r, r, value=-1).mul_(hidden[..., 2 * H :])
        into_hidden, into_n = torch.empty_like(hidden), torch.empty_like(n)
        rows = zip(
            gradient.unbind(0), to_z.unbind(0), to_n.unbind(0), to_r.unbind(0), r.unbind(0),
            z.unbind(0), into_hidden.unbind(0), into_hidden[..., :H].unbind(0),
            into_hidden[..., H : 2 * H].unbind(0), into_hidden[..., 2 * H :].unbind(0),
            into_n.unbind(0), strict=True,
        )  # fmt: skip
        flow = torch.zeros_like(state)
        for g, of_z, of_n, of_r, r_t, z_t, into, into_r, into_z, into_un, d_n in reversed([*rows]):
            flow = flow + g
            torch.mul(flow, of_z, out=into_z)
            torch.mul(flow, of_n, out=d_n)
            torch.mul(d_n, of_r, out=into_r)
            torch.mul(d_n, r_t, out=into_un)
            flow = torch.addmm(flow * z_t, into, weight)
        flat = into_hidden.flatten(0, 1)
        into_pre = torch.cat((into_hidden[..., : 2 * H], into_n), dim=-1)
        return into_pre, flow, matmul(flat.mT, before.flatten(0, 1)), flat.sum(0)


def gru(pre: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The states of a gated recurrent unit (Cho et al. 2014); gates are in torch's order r, z, n.

    r, z = sigmoid(pre + U h + d),  n = tanh(pre + r (U h + d)),  h' = (1 - z) n + z h

    Args:
        pre: `[T, N, 3 H]` the inputs' contribution to the gates, W x + b.
        state: `[N, H]` state before the first step.
        weight: `[3 H, H]` the matrix U.
        bias: `[3 H]` the vector d.
    Returns:
        `[T, N, H]` states; the last one is the final state.
    """
    if torch.is_grad_enabled():
        out: Tensor = _GRU.apply(pre, state, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _steps(pre, state, weight, bias)[0]
