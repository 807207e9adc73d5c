"""The gated recurrence equals its equations, step by step, and so does its derivative."""

import pytest
import torch

from retain.ops import gated_recurrence, scan

B, H = 3, 5


def slowly(*, gates, reset, initial):
    state, outs = initial, []
    for t in range(len(gates)):
        z, o, n = gates[t].split(H, -1)
        state = torch.where(reset[t].unsqueeze(-1), torch.zeros_like(state), state)
        state = (1 - z.sigmoid()) * state + z.sigmoid() * n
        outs.append(state * o * o.sigmoid())
    return torch.stack(outs), state


def problem(T, share=0.1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(T)
    gates = torch.randn(T, B, 3 * H, generator=generator, dtype=dtype)
    reset = torch.rand(T, B, generator=generator) < share
    return gates, reset, torch.randn(B, H, generator=generator, dtype=dtype)


@pytest.mark.parametrize("T", [1, 2, scan.LONG - 1, scan.LONG, 130])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_it_is_its_equations(T, share):
    gates, reset, initial = problem(T, share)
    fast = gated_recurrence(gates=gates, reset=reset, initial=initial)
    slow = slowly(gates=gates, reset=reset, initial=initial)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("T", [1, 3, scan.LONG + 3])
def test_the_written_derivative_is_the_numeric_one(T):
    gates, reset, initial = problem(T, dtype=torch.float64)

    def run(gates, initial):
        return gated_recurrence(gates=gates, reset=reset, initial=initial)

    leaves = gates.requires_grad_(), initial.requires_grad_()
    assert torch.autograd.gradcheck(run, leaves, fast_mode=T > 3)


@pytest.mark.parametrize("where", [0, 1, 7, 8, 127])
def test_nothing_before_a_reset_is_left_after_it(where):
    gates, reset, initial = problem(128, 0.0)
    reset[where, 1] = True
    gates.requires_grad_()
    out, end = gated_recurrence(gates=gates, reset=reset, initial=initial)
    changed = gates.detach().clone()
    changed[:where] += 1e3
    other, other_end = gated_recurrence(gates=changed, reset=reset, initial=initial + 1e3)
    assert torch.equal(out[where:, 1], other[where:, 1])
    assert torch.equal(end[1], other_end[1])
    (gradient,) = torch.autograd.grad(out[where:, 1].sum() + end[1].sum(), gates)
    assert not gradient[:where].any()
    assert gradient[where:, 1].any()


@pytest.mark.parametrize("z", [-200.0, 200.0])
def test_gates_that_are_shut_or_open_for_good_stay_finite(z):
    gates, reset, initial = problem(64)
    gates[..., : 2 * H] = torch.tensor([z, -z]).repeat_interleave(H)
    leaves = gates.requires_grad_(), initial.requires_grad_()
    out, _ = gated_recurrence(gates=gates, reset=reset, initial=initial)
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.sum(), leaves))
