"""A convolution over the last steps of an episode, with its derivative written out."""

from typing import Any

import torch
from torch import Tensor

from retain.ops.resets import kept_bits, without_resets, zero_resets_, zero_where


def _seen(reset: Tensor, K: int, like: Tensor) -> list[Tensor]:
    """For each lag j from 1 to K - 1, bits `[T, B, 1]` that are zero where reset[t - j + 1]: step t
    does not see steps that lie j or more behind it. There is no reset before the first step."""
    T = len(reset)
    flags = torch.cat((torch.zeros_like(reset[:1]).expand(K - 2, -1), reset)) if K > 2 else reset
    bits = kept_bits(flags, like)
    return [bits[K - 1 - j : K - 1 - j + T] for j in range(1, K)]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, reset: Tensor) -> Tensor:
        T, K = len(reset), len(weight)
        out = rows[:T] * weight[0]
        # From the oldest step to the newest: what a reset cuts off is dropped on the way.
        for k, bits in enumerate(reversed(_seen(reset, K, rows)), start=1):
            zero_resets_(out, bits).addcmul_(rows[k : k + T], weight[k])
        ctx.save_for_backward(rows, weight, reset)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, reset = ctx.saved_tensors
        T, K = len(reset), len(weight)
        into_rows, into_weight = torch.zeros_like(rows), torch.empty_like(weight)
        flow = gradient.contiguous()
        for k, bits in zip(range(K - 1, -1, -1), [None, *_seen(reset, K, rows)], strict=True):
            if bits is not None:
                flow = without_resets(flow, bits)
            into_rows[k : k + T].addcmul_(flow, weight[k])
            torch.sum(flow * rows[k : k + T], dim=(0, 1), out=into_weight[k])
        return into_rows, into_weight, None


def causal_convolution(
    *, input: Tensor, weight: Tensor, reset: Tensor, before: Tensor
) -> tuple[Tensor, Tensor]:
    """Each channel's weighted sum over the last K steps of its episode, including the current one.

    y_t = sum_j w_{K-1-j} x_{t-j}  over the j < K for which step t - j is in the episode of step t

    Args:
        input: x, `[T, B, H]`
        weight: w, `[K, H]`; the last row belongs to the current step.
        reset: `[T, B]` bool, true at the first step of an episode.
        before: `[B, K - 1, H]` the steps before the first, oldest first; zeros for steps that the
            episode does not have.
    Returns:
        y `[T, B, H]`, and the new `before` after the last step.
    """
    T, K = len(input), len(weight)
    kind = torch.promote_types(input.dtype, weight.dtype)
    input, before = input.to(kind), before.to(kind)
    if T == 1:
        kept = before.masked_fill(reset[0].view(-1, 1, 1), 0.0)
        rows = torch.cat((kept, input.transpose(0, 1)), dim=1)  # [B, K, H]
        return (rows * weight).sum(1).unsqueeze(0), rows[:, 1:]
    rows = torch.cat((before.transpose(0, 1), input))  # [K - 1 + T, B, H]
    out: Tensor = _Convolution.apply(rows, weight, reset)  # type: ignore[no-untyped-call]
    return out, _tail(rows, reset, K - 1)


def _tail(rows: Tensor, reset: Tensor, kept: int) -> Tensor:
    """The last `kept` rows `[B, kept, H]`, zero for rows that belong to an earlier episode."""
    if not kept:
        return rows[:0].transpose(0, 1)
    flags = torch.cat((torch.zeros_like(reset[:1]).expand(kept, -1), reset))[-kept:]
    # A row is of an earlier episode if any later row begins one.
    later = torch.cat((flags[1:], torch.zeros_like(flags[:1])))
    gone = later.flip(0).cumsum(0).flip(0) > 0
    return zero_where(rows[len(rows) - kept :], gone).transpose(0, 1)
