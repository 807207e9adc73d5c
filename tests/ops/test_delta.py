"""The chunkwise delta rule equals its recurrence."""

import pytest
import torch
import torch.nn.functional as F

from retain.ops import delta, gated_delta

B, G, E, V = 2, 2, 4, 3


def slowly(*, query, key, value, log_decay, rate, reset, initial):
    """The reference: the recurrence as it is written, with the outer product spelled out."""
    state, outs = initial, []
    for t in range(len(query)):
        state = torch.where(reset[t].view(B, 1, 1, 1), torch.zeros_like(state), state)
        k, a, b = key[t], log_decay[t].exp()[..., None, None], rate[t][..., None, None]
        forget = torch.eye(E, dtype=k.dtype) - b * torch.einsum("bgi,bgj->bgij", k, k)
        write = torch.einsum("bgi,bgj->bgij", k, value[t])
        state = a * forget @ state + b * write
        outs.append(torch.einsum("bge,bgev->bgv", query[t], state))
    return torch.stack(outs), state


def problem(T, share=0.05, dtype=torch.float32):
    generator = torch.Generator().manual_seed(T)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return {
        "query": normal(T, B, G, E), "key": F.normalize(normal(T, B, G, E), dim=-1),
        "value": normal(T, B, G, V), "log_decay": F.logsigmoid(normal(T, B, G) + 2),
        "rate": normal(T, B, G).sigmoid(), "initial": normal(B, G, E, V),
        "reset": torch.rand(T, B, generator=generator) < share,
    }  # fmt: skip


@pytest.mark.parametrize("T", [1, 2, delta.CHUNK - 1, delta.CHUNK, delta.CHUNK + 1, 150])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_it_is_the_recurrence(T, share):
    parts = problem(T, share)
    for fast, slow in zip(gated_delta(**parts), slowly(**parts), strict=True):
        torch.testing.assert_close(fast, slow, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("T", [1, delta.CHUNK + 2])
def test_the_derivative_is_the_numeric_one(T):
    parts = problem(T, 0.1, torch.float64)
    reset = parts.pop("reset")
    leaves = [x.requires_grad_() for x in parts.values()]

    def run(*leaves):
        return gated_delta(**dict(zip(parts, leaves, strict=True)), reset=reset)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("where", [0, 1, delta.CHUNK - 1, delta.CHUNK, 50])
def test_nothing_before_a_reset_is_left_after_it(where):
    parts = problem(60, 0.0)
    parts["reset"][where, 1] = True
    before, end = gated_delta(**parts)
    changed = {name: x.clone() for name, x in parts.items()}
    changed["initial"] += 1e3
    changed["value"][:where] += 1e3
    changed["log_decay"][:where] -= 5
    after, changed_end = gated_delta(**changed)
    assert torch.equal(before[where:, 1], after[where:, 1])
    assert torch.equal(end[1], changed_end[1])
