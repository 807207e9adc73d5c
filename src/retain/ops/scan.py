"""Linear recurrences over time with resets, with their derivative written out.

The state of step t is a multiple of the previous state plus an input. A stretch of steps can
therefore be computed without knowing its start: its effect on any start is one factor and one term.
The steps are cut into chunks, all chunks run through their steps side by side, and then a short
loop passes the state from chunk to chunk. A loop over single steps is faster for small T. The
choice depends on T and on the device, never on B, on the data or on a clock, so acting, training
and a resumed run agree.

A reset is a decay of exactly 0. The code takes no logarithm and divides by no product of decays:
both lose digits, and the division also overflows or leaks the previous episode.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

LONG = 48
"""Number of steps from which two levels are faster than a loop on a CPU (benchmarks/unroll.py). On
an accelerator, where a call costs more than its arithmetic, they always are."""


def chunk_length(T: int, device: torch.device) -> int:
    """Length of a chunk for T steps; 0 for a loop over single steps.

    A step inside the chunks takes two calls and a step from chunk to chunk takes one, so about
    sqrt(T / 2) gives the fewest calls; powers of two keep the number of shapes small.
    """
    if T < 4 or (T < LONG and device.type == "cpu"):
        return 0
    return 1 << max(1, round(math.log2(math.sqrt(T / 2))))


def _loop(
    decays: Iterable[Tensor], inputs: Iterable[Tensor], state: Tensor, outs: Iterable[Tensor]
) -> Tensor:
    """Writes `decay state + input` of each step in order; returns the last state."""
    for decay, input, out in zip(decays, inputs, outs, strict=True):
        state = torch.addcmul(input, decay, state, out=out)
    return state


def scan(decay: Tensor, input: Tensor, state: Tensor, *, reverse: bool = False) -> Tensor:
    """States `[T, B, H]` of `decay state + input`, from the first step onwards or from the last one
    backwards; real or complex numbers, contiguous, hidden from autograd."""
    T = len(input)
    out = torch.empty_like(input)
    K = chunk_length(T, input.device)
    whole = T // K * K if K else 0
    # What does not fill a chunk is behind the chunks in the order of the scan.
    chunked, rest = (slice(0, whole), slice(whole, T))
    if reverse:
        chunked, rest = (slice(T - whole, T), slice(0, T - whole))
    if whole:
        state = _chunks(decay[chunked], input[chunked], state, out[chunked], K, reverse)
    rows = [x[rest].unbind(0) for x in (decay, input, out)]
    if reverse:
        rows = [row[::-1] for row in rows]
    _loop(rows[0], rows[1], state, rows[2])
    return out


def _chunks(
    decay: Tensor, input: Tensor, state: Tensor, out: Tensor, K: int, reverse: bool
) -> Tensor:
    """Fills `out` `[C K, B, H]`; returns the state after the last step."""
    shape = (len(input) // K, K, *input.shape[1:])  # [C, K, B, H]
    product = torch.empty_like(decay).view(shape)
    inside = [x.view(shape).unbind(1) for x in (decay, input, out)] + [product.unbind(1)]
    if reverse:
        inside = [steps[::-1] for steps in inside]
    decays, inputs, locals_, products = inside
    locals_[0].copy_(inputs[0])
    products[0].copy_(decays[0])
    _loop(decays[1:], inputs[1:], locals_[0], locals_[1:])
    for k in range(1, K):
        torch.mul(decays[k], products[k - 1], out=products[k])
    starts = torch.empty_like(locals_[0])  # [C, B, H]
    across = [x.unbind(0) for x in (products[-1], locals_[-1], starts)]
    if reverse:
        across = [chunks[::-1] for chunks in across]
    factors, terms, begins = across
    begins[0].copy_(state)
    last = _loop(factors[:-1], terms[:-1], begins[0], begins[1:])
    end = torch.addcmul(terms[-1], factors[-1], last)
    out.view(shape).addcmul_(product, starts.unsqueeze(1))
    return end


def _numbers(x: Tensor, pairs: bool) -> Tensor:
    """Pairs of reals `[..., 2]` as complex numbers; other tensors unchanged."""
    return torch.view_as_complex(x.contiguous()) if pairs else x.contiguous()


def _reals(x: Tensor, pairs: bool) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if pairs else x


class _LinearRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, input: Tensor, initial: Tensor, pairs: bool) -> Tensor:
        a, b, h = (_numbers(x, pairs) for x in (decay, input, initial))
        out = scan(a, b, h)
        ctx.save_for_backward(a, h, out)
        ctx.pairs = pairs
        return _reals(out, pairs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        a, h, out = ctx.saved_tensors
        # What flows into h_t: its own gradient, and conj(a_{t+1}) times what flows into h_{t+1}.
        later = torch.cat((a[1:], torch.zeros_like(a[:1])))
        if ctx.pairs:
            later = later.conj_physical()
        flow = scan(later, _numbers(gradient, ctx.pairs), torch.zeros_like(h), reverse=True)
        into_decay = flow * torch.cat((h.unsqueeze(0), out[:-1])).conj()
        into_initial = flow[0] * a[0].conj()
        return (
            _reals(into_decay, ctx.pairs), _reals(flow, ctx.pairs),
            _reals(into_initial, ctx.pairs), None,
        )  # fmt: skip


def linear_recurrence(*, decay: Tensor, input: Tensor, reset: Tensor, initial: Tensor) -> Tensor:
    """The states of a diagonal linear recurrence that restarts at every reset.

    h_t = a_t h_{t-1} + b_t,  with h_{t-1} = 0 where reset[t]

    Complex numbers are pairs of reals in an extra dimension of 2. The recurrence runs in float32 or
    wider, whatever its inputs are, since in bfloat16 a decay of 0.999 is 1.

    Args:
        decay: a, `[T, B, H]`, or anything that broadcasts to the shape of `input`.
        input: b, `[T, B, H]`, or pairs `[T, B, H, 2]`.
        reset: `[T, B]` bool, true at the first step of an episode.
        initial: h before the first step, `[B, H]` or `[B, H, 2]`.
    Returns:
        h of every step, in the shape of `input`.
    """
    pairs = input.dim() == 4
    kind = torch.promote_types(input.dtype, torch.float32)
    decay, input, initial = decay.to(kind), input.to(kind), initial.to(kind)
    cut = reset.view(*reset.shape, *[1] * (input.dim() - 2))
    decay = decay.expand_as(input).masked_fill(cut, 0.0)
    if len(input) == 1:  # in plain operations: acting, and what is exported, need no more
        return _step(decay, input, initial.unsqueeze(0), pairs)
    out: Tensor = _LinearRecurrence.apply(decay, input, initial, pairs)  # type: ignore[no-untyped-call]
    return out


def _step(decay: Tensor, input: Tensor, state: Tensor, pairs: bool) -> Tensor:
    if not pairs:
        return torch.addcmul(input, decay, state)
    a, b = decay.unbind(-1)
    x, y = state.unbind(-1)
    return input + torch.stack((a * x - b * y, a * y + b * x), dim=-1)
