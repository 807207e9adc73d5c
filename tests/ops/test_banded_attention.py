"""Banded attention equals each step asking the steps it may see, one by one."""

import pytest
import torch

from retain.ops import banded_attention

B, G, E = 2, 2, 3


def slowly(*, query, key, value, episode, bias):
    """The reference: a softmax over a list for every step and head."""
    T, L = len(query), bias.shape[1]
    out = torch.zeros_like(query)
    for t in range(T):
        for b in range(B):
            for g in range(G):
                seen = [d for d in range(L) if episode[L - 1 + t - d, b] == episode[L - 1 + t, b]]
                score = torch.stack([
                    (query[t, b, g] * key[L - 1 + t - d, b, g]).sum() / E**0.5 + bias[g, d]
                    for d in seen
                ])  # fmt: skip
                weight = score.softmax(0)
                out[t, b, g] = sum(
                    w * value[L - 1 + t - d, b, g] for w, d in zip(weight, seen, strict=True)
                )
    return out


def problem(T, L, share=0.2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(T * 10 + L)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    reset = torch.rand(L - 1 + T, B, generator=generator) < share
    rows = (L - 1 + T, B, G, E)
    return {"query": normal(T, B, G, E), "key": normal(*rows), "value": normal(*rows),
            "episode": reset.cumsum(0), "bias": normal(G, L)}  # fmt: skip


@pytest.mark.parametrize("L", [1, 2, 4, 30])
@pytest.mark.parametrize("T", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_it_is_what_each_step_sees(T, L, share):
    parts = problem(T, L, share)
    torch.testing.assert_close(banded_attention(**parts), slowly(**parts), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("T", "L"), [(1, 3), (5, 2), (4, 6)])
def test_the_derivative_is_the_numeric_one(T, L):
    parts = problem(T, L, 0.3, torch.float64)
    names = ("query", "key", "value", "bias")
    leaves = [parts[name].requires_grad_() for name in names]

    def run(*leaves):
        named = dict(zip(names, leaves, strict=True))
        return banded_attention(**named, episode=parts["episode"])

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_no_weight_and_no_gradient_leave_the_band_or_the_episode():
    T, L = 9, 4
    parts = problem(T, L, 0.0)
    parts["episode"] = torch.zeros(L - 1 + T, B, dtype=torch.long)
    parts["episode"][L - 1 + 5 :, 0] = 1
    leaf = parts["value"].requires_grad_()
    out = banded_attention(**parts)
    (gradient,) = torch.autograd.grad(out[6].sum(), leaf)
    reached = gradient.abs().sum((2, 3)) > 0  # [L - 1 + T, B]
    rows = torch.arange(L - 1 + T) - (L - 1)
    assert reached[:, 0].tolist() == ((rows >= 5) & (rows <= 6)).tolist()
    assert reached[:, 1].tolist() == ((rows >= 3) & (rows <= 6)).tolist()
