"""The fused unroll equals the step-by-step loop, at every boundary."""

import itertools

import pytest
import torch

from retain.errors import UsageError
from retain.memory import GRU, LSTM, make_memory, step_loop, unroll

T, B, D, H = 20, 6, 5, 16


def resets(name: str) -> torch.Tensor:
    flags = torch.zeros(T, B, dtype=torch.bool)
    generator = torch.Generator().manual_seed(3)
    if name == "all":
        flags[:] = True
    elif name == "first step":
        flags[0] = True
    elif name == "last step":
        flags[-1] = True
    elif name == "one environment at every step":
        flags[:, 2] = True
    elif name != "none":
        flags = torch.rand(T, B, generator=generator) < float(name)
    return flags


PATTERNS = ("none", "all", "first step", "last step", "one environment at every step",
            "0.03", "0.3", "0.9")  # fmt: skip


def build(kind: type, layers: int = 1) -> LSTM | GRU:
    torch.manual_seed(0)
    memory = kind(D, H, layers)
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # biases too: a flush must cancel them
    return memory


@pytest.fixture(params=["flush", "split"])
def layout(request, monkeypatch):
    monkeypatch.setattr(unroll, "STEP_ROWS", 0.0 if request.param == "flush" else 1e9)
    return request.param


def outcome(run, memory, x, carry, reset):
    out, end = run(memory, x, carry, reset)
    weight = torch.linspace(-1, 1, out.numel()).view_as(out)
    loss = (out * weight).sum() + sum(leaf.square().sum() for leaf in end)
    gradients = torch.autograd.grad(loss, [x, *carry, *memory.parameters()])
    return out, end, gradients


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_fused_unroll_equals_the_step_loop(kind, layers, pattern, layout):
    memory, reset = build(kind, layers), resets(pattern)
    x = torch.randn(T, B, D, requires_grad=True)
    carry = tuple(torch.randn(B, layers, H, requires_grad=True) for _ in range(memory.states))
    out, end, gradients = outcome(lambda m, *a: m(*a), memory, x, carry, reset)
    slow_out, slow_end, slow_gradients = outcome(step_loop, memory, x, carry, reset)
    torch.testing.assert_close(out, slow_out, atol=1e-6, rtol=0)
    for leaf, slow in zip(end, slow_end, strict=True):
        torch.testing.assert_close(leaf, slow, atol=1e-6, rtol=0)
    for gradient, slow in zip(gradients, slow_gradients, strict=True):
        torch.testing.assert_close(gradient, slow, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_step_loop_equals_torch_module_without_resets(kind):
    """The reference itself is checked against torch's own modules."""
    memory = build(kind)
    module = {LSTM: torch.nn.LSTM, GRU: torch.nn.GRU}[kind](D, H)
    with torch.no_grad():
        for ours, theirs in zip(memory.parameters(), module.parameters(), strict=True):
            theirs.copy_(ours)
    x = torch.randn(T, B, D)
    expected, _ = module(x)
    out, _ = step_loop(memory, x, memory.initial_carry(B), resets("none"))
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_an_earlier_episode_leaves_no_trace(kind, layout):
    memory, reset = build(kind), torch.zeros(T, B, dtype=torch.bool)
    reset[8, :3] = True
    x = torch.randn(T, B, D)
    poisoned = x.clone()
    poisoned[:8, :3] = 1e6
    carry = memory.initial_carry(B)
    out, end = memory(x, carry, reset)
    out_poisoned, end_poisoned = memory(poisoned, carry, reset)
    assert torch.equal(out[8:], out_poisoned[8:])
    assert all(torch.equal(a, b) for a, b in zip(end, end_poisoned, strict=True))
    assert not torch.equal(out[:8], out_poisoned[:8])


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_gradient_stops_exactly_at_a_reset(kind, layout):
    memory, reset = build(kind), torch.zeros(T, B, dtype=torch.bool)
    reset[8, 1] = reset[3, 2] = True
    x = torch.randn(T, B, D, requires_grad=True)
    out, _ = memory(x, memory.initial_carry(B), reset)
    (gradient,) = torch.autograd.grad(out[15, 1].sum(), x)
    assert torch.all(gradient[:8] == 0.0)
    assert torch.all(gradient[8:16, 1].abs().sum(-1) > 0)
    assert torch.all(gradient[16:] == 0.0)
    assert torch.all(gradient[:, [0, 2, 3, 4, 5]] == 0.0)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_two_unrolls_with_the_carry_handed_over_equal_one(kind, layout):
    memory, reset = build(kind, 2), resets("0.3")
    x = torch.randn(T, B, D)
    whole, end = memory(x, memory.initial_carry(B), reset)
    first, middle = memory(x[:9], memory.initial_carry(B), reset[:9])
    second, end_of_second = memory(x[9:], middle, reset[9:])
    torch.testing.assert_close(torch.cat((first, second)), whole, atol=1e-6, rtol=0)
    for leaf, other in zip(end_of_second, end, strict=True):
        torch.testing.assert_close(leaf, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("batch", [1, 3])
def test_acting_step_by_step_equals_the_unroll(kind, batch):
    memory = build(kind)
    reset = resets("0.3")[:, :batch]
    x = torch.randn(T, batch, D)
    whole, _ = memory(x, memory.initial_carry(batch), reset)
    carry = memory.initial_carry(batch)
    with torch.inference_mode():
        for t in range(T):
            out, carry = memory(x[t : t + 1], carry, reset[t : t + 1])
            torch.testing.assert_close(out[0], whole[t], atol=1e-6, rtol=0)


def test_the_cheaper_layout_is_chosen():
    sparse = torch.zeros(128, 32, dtype=torch.bool)
    sparse[64, 0] = True
    assert isinstance(unroll.plan(sparse), unroll.Flush)
    assert isinstance(unroll.plan(torch.ones(128, 8, dtype=torch.bool)), unroll.Split)
    first_only = torch.zeros(128, 8, dtype=torch.bool)
    first_only[0] = True
    assert unroll.plan(first_only) is None


def test_layouts_place_every_step_once(layout):
    for pattern in ("0.03", "0.3", "one environment at every step"):
        plan = unroll.plan(resets(pattern))
        tags = torch.arange(T * B, dtype=torch.float32).view(T, B, 1)
        assert torch.equal(unroll.from_slots(unroll.to_slots(tags, plan), plan), tags)


def test_parameters_number_as_torch_counts_them():
    for (kind, module), layers in itertools.product(
        ((LSTM, torch.nn.LSTM), (GRU, torch.nn.GRU)), (1, 2)
    ):
        ours = sum(p.numel() for p in kind(D, H, layers).parameters())
        assert ours == sum(p.numel() for p in module(D, H, layers).parameters())


def test_an_unknown_memory_names_the_nearest():
    with pytest.raises(UsageError, match="unknown memory 'lsmt'; did you mean 'lstm'"):
        make_memory("lsmt", 4, 8)
