"""A linear recurrence whose gates read only the input, with its derivative written out.

Everything except the recurrence itself is computed for all steps at once, in few passes.
"""

from typing import Any

import torch
from torch import Tensor

from retain.ops.resets import kept_bits, zero_resets_
from retain.ops.scan import scan


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, reset: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        H = initial.shape[-1]
        opened = torch.sigmoid(gates[..., : 2 * H])
        z, o = torch.split(opened, H, dim=-1)
        bits = kept_bits(reset, opened)
        decay = zero_resets_(1 - z, bits)
        h = scan(decay, z * gates[..., 2 * H :], initial)
        ctx.save_for_backward(gates, initial, opened, decay, bits, h)
        return (gates[..., H : 2 * H] * o).mul_(h), h[-1].clone()

    @staticmethod
    def backward(ctx: Any, into_out: Tensor, into_last: Tensor) -> tuple[Tensor, None, Tensor]:
        gates, initial, opened, decay, bits, h = ctx.saved_tensors
        H = initial.shape[-1]
        z, o = torch.split(opened, H, dim=-1)
        n = gates[..., 2 * H :]
        silu = gates[..., H : 2 * H] * o
        into = torch.empty_like(gates)
        # d silu(x) = s + silu(x) (1 - s) for s = sigmoid(x)
        slope = torch.addcmul(o, silu, 1 - o)
        torch.mul(slope.mul_(h), into_out, out=into[..., H : 2 * H])
        into_h = silu.mul_(into_out)
        into_h[-1] += into_last
        later = torch.cat((decay[1:], torch.zeros_like(decay[:1])))
        flow = scan(later, into_h, torch.zeros_like(initial), reverse=True)
        torch.mul(flow, z, out=into[..., 2 * H :])
        before = zero_resets_(torch.cat((initial.unsqueeze(0), h[:-1])), bits)
        change = torch.sub(n, before, out=before).mul_(flow)
        torch.mul(change, torch.addcmul(z, z, z, value=-1), out=into[..., :H])
        return into, None, flow[0] * decay[0]


def gated_recurrence(*, gates: Tensor, reset: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """The minGRU's recurrence (Feng et al. 2024, arXiv:2410.01201) followed by an output gate.

    h_t = (1 - sigmoid(z_t)) h_{t-1} + sigmoid(z_t) n_t,  y_t = h_t silu(o_t)
    with h_{t-1} = 0 where reset[t].  Runs in float32 or wider.

    Args:
        gates: z, o and n side by side, `[T, B, 3 H]`.
        reset: `[T, B]` bool, true at the first step of an episode.
        initial: h before the first step, `[B, H]`.
    Returns:
        y `[T, B, H]`, and h after the last step.
    """
    kind = torch.promote_types(gates.dtype, torch.float32)
    gates, initial = gates.to(kind), initial.to(kind)
    if len(gates) == 1:
        z, o, n = gates[0].chunk(3, -1)
        state = torch.lerp(initial.masked_fill(reset[0].unsqueeze(-1), 0.0), n, z.sigmoid())
        return (state * torch.nn.functional.silu(o)).unsqueeze(0), state
    out: tuple[Tensor, Tensor] = _Gated.apply(gates, reset, initial)  # type: ignore[no-untyped-call]
    return out
