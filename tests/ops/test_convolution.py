"""A causal convolution sees the last K steps of the episode and nothing else."""

import pytest
import torch

from retain.ops import causal_convolution

B, H = 3, 4


def slowly(*, input, weight, reset, before):
    """The reference: every step walks back until its episode begins."""
    K = len(weight)
    rows = torch.cat((before.transpose(0, 1), input))
    outs = []
    for t in range(len(input)):
        row = []
        for b in range(input.shape[1]):
            total, alive = input[t, b] * weight[-1], True
            for j in range(1, K):
                s = t - j + 1  # the step that must not begin an episode
                alive = alive and not (s >= 0 and bool(reset[s, b]))
                if alive:
                    total = total + rows[K - 1 + t - j, b] * weight[K - 1 - j]
            row.append(total)
        outs.append(torch.stack(row))
    return torch.stack(outs)


def problem(T, K, share=0.2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(T * 10 + K)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    reset = torch.rand(T, B, generator=generator) < share
    return {"input": normal(T, B, H), "weight": normal(K, H), "reset": reset,
            "before": normal(B, K - 1, H)}  # fmt: skip


def leaves_of(parts):
    return {name: x.clone().requires_grad_() for name, x in parts.items() if name != "reset"}


@pytest.mark.parametrize("K", [1, 2, 4])
@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_outputs_and_gradients_are_those_of_a_walk_back(T, K, share):
    parts = problem(T, K, share)
    fast, slow = leaves_of(parts), leaves_of(parts)
    out = causal_convolution(**fast, reset=parts["reset"])[0]
    expected = slowly(**slow, reset=parts["reset"])
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)
    weight = torch.linspace(-1, 1, out.numel()).view_as(out)
    ours = torch.autograd.grad((out * weight).sum(), list(fast.values()))
    theirs = torch.autograd.grad((expected * weight).sum(), list(slow.values()), allow_unused=True)
    for a, b, leaf in zip(ours, theirs, fast.values(), strict=True):
        b = torch.zeros_like(leaf) if b is None else b
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("T", [1, 3])
def test_the_written_derivative_is_the_numeric_one(T):
    parts = problem(T, 4, 0.4, torch.float64)
    parts["reset"][:, 1] = False
    leaves = leaves_of(parts)

    def run(*values):
        named = dict(zip(leaves, values, strict=True))
        return causal_convolution(**named, reset=parts["reset"])

    assert torch.autograd.gradcheck(run, list(leaves.values()))


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 10])
def test_two_calls_with_what_is_left_equal_one(cut):
    parts = problem(12, 4)
    whole, end = causal_convolution(**parts)
    first, middle = causal_convolution(
        input=parts["input"][:cut], weight=parts["weight"], reset=parts["reset"][:cut],
        before=parts["before"],
    )  # fmt: skip
    second, last = causal_convolution(
        input=parts["input"][cut:], weight=parts["weight"], reset=parts["reset"][cut:],
        before=middle,
    )  # fmt: skip
    torch.testing.assert_close(torch.cat((first, second)), whole, atol=1e-6, rtol=1e-6)
    assert torch.equal(last, end)


def test_even_what_is_not_a_number_stays_in_its_episode():
    parts = problem(10, 4, 0.0)
    parts["reset"][6] = True
    clean, end = causal_convolution(**parts)
    parts["input"][:6] = torch.nan
    dirty, dirty_end = causal_convolution(**parts)
    assert torch.equal(clean[6:], dirty[6:])
    assert torch.equal(end, dirty_end)


@pytest.mark.parametrize("T", [1, 5])
def test_a_window_of_the_current_step_alone_leaves_nothing(T):
    parts = problem(T, 1)
    out, end = causal_convolution(**parts)
    B, H = parts["input"].shape[1:]
    torch.testing.assert_close(out, parts["input"] * parts["weight"][0])
    assert end.shape == (B, 0, H)
