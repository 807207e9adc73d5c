"""The linear recurrence equals a loop over single steps, whatever path works it out."""

import pytest
import torch

from retain.ops import linear_recurrence, scan

B, H = 3, 5
LENGTHS = (1, 2, scan.LONG - 1, scan.LONG, scan.LONG + 1, 130)


def slowly(*, decay, input, reset, initial):
    """The reference: one step after the other, in Python's complex numbers where there are pairs."""
    pairs = input.dim() == 4
    if pairs:
        decay, input, initial = (torch.view_as_complex(x) for x in (decay, input, initial))
    state, states = initial, []
    for t in range(len(input)):
        state = torch.where(reset[t].unsqueeze(-1), torch.zeros_like(state), state)
        state = decay[t] * state + input[t]
        states.append(state)
    out = torch.stack(states)
    return torch.view_as_real(out) if pairs else out


def problem(T, pairs=False, dtype=torch.float32, share=0.1):
    generator = torch.Generator().manual_seed(T)
    tail = (2,) if pairs else ()

    def normal(*shape):
        return torch.randn(*shape, *tail, generator=generator, dtype=dtype)

    decay = torch.tanh(normal(T, B, H)) * 0.7
    reset = torch.rand(T, B, generator=generator) < share
    return {"decay": decay, "input": normal(T, B, H), "reset": reset, "initial": normal(B, H)}


def gradients(function, parts):
    leaves = {name: x.clone().requires_grad_() for name, x in parts.items() if name != "reset"}
    out = function(**leaves, reset=parts["reset"])
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return torch.autograd.grad((out * weight).sum(), list(leaves.values()))


@pytest.mark.parametrize("pairs", [False, True], ids=["real", "pairs"])
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_states_and_gradients_are_those_of_a_loop(T, pairs, share):
    parts = problem(T, pairs, share=share)
    torch.testing.assert_close(linear_recurrence(**parts), slowly(**parts), atol=1e-6, rtol=1e-6)
    for fast, slow in zip(
        gradients(linear_recurrence, parts), gradients(slowly, parts), strict=True
    ):
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


def test_a_short_scan_is_bit_equal_to_its_steps():
    parts = problem(scan.LONG - 1)
    state, states = parts["initial"], []
    for t in range(scan.LONG - 1):
        here = {name: x[t : t + 1] for name, x in parts.items() if name != "initial"}
        states.append(linear_recurrence(**here, initial=state))
        state = states[-1][0]
    assert torch.equal(linear_recurrence(**parts), torch.cat(states))


@pytest.mark.parametrize("pairs", [False, True], ids=["real", "pairs"])
@pytest.mark.parametrize("T", [3, scan.LONG + 3])
def test_the_written_derivative_is_the_numeric_one(T, pairs):
    parts = problem(T, pairs, torch.float64)
    names = ("decay", "input", "initial")
    leaves = [parts[name].requires_grad_() for name in names]

    def run(*leaves):
        named = dict(zip(names, leaves, strict=True))
        return linear_recurrence(**named, reset=parts["reset"])

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("where", [0, 7, 8, 9, 63, 64, 127])
@pytest.mark.parametrize("pairs", [False, True], ids=["real", "pairs"])
def test_nothing_before_a_reset_is_left_after_it(where, pairs):
    parts = problem(128, pairs, share=0.0)
    parts["reset"][where, 1] = True
    before = linear_recurrence(**parts)
    changed = parts | {"initial": parts["initial"] + 1e3, "input": parts["input"].clone()}
    changed["input"][:where] += 1e3
    after = linear_recurrence(**changed)
    assert torch.equal(before[where:, 1], after[where:, 1])
    assert not torch.equal(before[where:, 0], after[where:, 0])
    into_decay, into_input, into_initial = gradients(
        lambda **named: linear_recurrence(**named)[where:, 1], parts
    )
    assert not into_input[:where].any()
    assert not into_decay[: where + 1].any()
    assert not into_initial.any()
    assert into_input[where:, 1].any()


@pytest.mark.parametrize("T", [scan.LONG - 1, 1024])
def test_extreme_decays_give_finite_states_and_gradients(T):
    parts = problem(T)
    parts["decay"] = torch.tensor([0.0, 1.0, 1e-38, 1 - 1e-7, -1.0]).expand(T, B, H)
    parts["reset"][5, 0] = True
    assert torch.isfinite(linear_recurrence(**parts)).all()
    for gradient in gradients(linear_recurrence, parts):
        assert torch.isfinite(gradient).all()


def test_a_decay_that_is_not_finite_is_gone_at_a_reset():
    parts = problem(64, share=0.0)
    parts["reset"][20] = True
    parts["decay"][20] = torch.inf
    assert torch.isfinite(linear_recurrence(**parts)).all()


def test_low_precision_is_only_that_of_the_inputs():
    parts = problem(64, share=0.0)
    parts["decay"] = torch.full((64, B, H), 0.999)
    low = {name: x.to(torch.bfloat16) if name == "input" else x for name, x in parts.items()}
    out = linear_recurrence(**low)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, slowly(**low | {"input": low["input"].float()}))


def test_the_path_depends_on_length_and_device_alone():
    cpu, other = torch.device("cpu"), torch.device("meta")
    assert [scan.chunk_length(T, cpu) for T in (1, 8, 47, 48, 128, 1024)] == [0, 0, 0, 4, 8, 16]
    assert [scan.chunk_length(T, other) for T in (1, 3, 4, 128)] == [0, 0, 2, 8]
