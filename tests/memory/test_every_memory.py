"""What every registered memory keeps, so that a new one is tested by being registered."""

import pytest
import torch

from retain.doctor import check_memory
from retain.memory import MEMORIES, make_memory, step_loop
from retain.memory.registry import fields_of
from retain.types import tree_leaves, tree_map

B, D, H = 3, 5, 8
NATIVE = [f"{name}, native" for name, kind in MEMORIES.items() if "kernels" in fields_of(kind)]
NAMES = sorted(MEMORIES) + NATIVE
EDGES = (1, 2, 3, 4, 5, 31, 32, 33, 47, 48, 49, 63, 64, 65, 130)
"""Lengths around those of a convolution, of a chunk, of the paths of a scan and of a band."""


def build(name, layers=1, dtype=torch.float32):
    """A memory none of whose parameters is zero."""
    torch.manual_seed(0)
    name, _, kernels = name.partition(", ")
    memory = make_memory(name, D, H, layers, kernels=kernels or "torch")
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return memory.to(dtype)


def stream(T, share=0.05, dtype=torch.float32):
    generator = torch.Generator().manual_seed(T)
    x = torch.randn(T, B, D, generator=generator, dtype=dtype)
    return x, torch.rand(T, B, generator=generator) < share


def carry_of(memory, dtype=torch.float32):
    """A carry that some steps have left."""
    with torch.no_grad():
        x, reset = stream(7, 0.1, dtype)
        return memory(x, memory.initial_carry(B), reset)[1]


def gradients(run, memory, x, carry, reset):
    """Outputs, the next carry, and gradients of the input, the carry and the parameters."""
    x = x.clone().requires_grad_()
    carry = tree_map(lambda leaf: leaf.clone().requires_grad_(), carry)
    out, end = run(memory, x, carry, reset)
    weight = torch.linspace(-1, 1, out.numel()).view_as(out)
    loss = (out * weight).sum() + sum(
        leaf.square().sum() for leaf in tree_leaves(end) if leaf.requires_grad
    )
    leaves = [x, *tree_leaves(carry), *memory.parameters()]
    return out, end, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)


def close(one, other, atol):
    for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=atol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_an_unroll_and_its_gradients_are_those_of_the_step_loop(name, layers, share):
    memory, (x, reset) = build(name, layers), stream(70, share)
    carry = carry_of(memory)
    out, end, fast = gradients(lambda m, *a: m(*a), memory, x, carry, reset)
    slow_out, slow_end, slow = gradients(step_loop, memory, x, carry, reset)
    close(out, slow_out, 2e-6)
    close(end, slow_end, 2e-6)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * max(1.0, float(b.abs().max())), rtol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_every_length_equals_the_step_loop(name):
    memory = build(name)
    carry = carry_of(memory)
    x, reset = stream(max(EDGES))
    slow = step_loop(memory, x, carry, reset)[0]
    for T in EDGES:
        close(memory(x[:T], carry, reset[:T])[0], slow[:T], 2e-6)
    x, reset = stream(1024, 0.01)
    slow, slow_end = step_loop(memory, x, carry, reset)
    out, end = memory(x, carry, reset)
    close(out, slow, 1e-5)
    close(end, slow_end, 1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_two_unrolls_with_the_carry_handed_over_equal_one(name):
    memory, (x, reset) = build(name, 2), stream(130)
    carry = carry_of(memory)
    whole, end = memory(x, carry, reset)
    for cut in EDGES[:-1]:
        first, middle = memory(x[:cut], carry, reset[:cut])
        second, last = memory(x[cut:], middle, reset[cut:])
        close(torch.cat((first, second)), whole, 2e-6)
        close(last, end, 2e-6)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_what_came_before_a_reset_changes_no_bit_after_it(name):
    memory, (x, _) = build(name, 2), stream(130)
    carry = carry_of(memory)
    for where in ((0,), (129,), (5, 6), *((edge,) for edge in EDGES[:-1]), range(130)):
        reset = torch.zeros(130, B, dtype=torch.bool)
        reset[list(where), 1] = True
        poisoned, (first, last) = x.clone(), (where[0], where[-1])
        poisoned[:last] += 1e3
        out, end = memory(x, carry, reset)
        other, other_end = memory(poisoned, tree_map(lambda leaf: leaf + 1e3, carry), reset)
        assert torch.equal(out[last:, 1], other[last:, 1]), where
        for a, b in zip(tree_leaves(end), tree_leaves(other_end), strict=True):
            assert torch.equal(a[1], b[1]), where
        if first and memory.receptive_field != 1:
            assert not torch.equal(out[first - 1, 1], other[first - 1, 1])


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_crosses_a_reset(name):
    memory, (x, _) = build(name), stream(70)
    reset = torch.zeros(70, B, dtype=torch.bool)
    reset[40, 1] = True
    out, end, _ = gradients(lambda m, *a: m(*a), memory, x, carry_of(memory), reset)
    x.requires_grad_()
    carry = tree_map(lambda leaf: leaf.requires_grad_(), carry_of(memory))
    out, end = memory(x, carry, reset)
    loss = out[40:, 1].sum() + sum(leaf[1].sum() for leaf in tree_leaves(end))
    into_x, *into_carry = torch.autograd.grad(
        loss, [x, *tree_leaves(carry)], allow_unused=True, materialize_grads=True
    )
    assert not into_x[:40].any()
    assert into_x[40:, 1].abs().sum(-1).all()
    assert not any(leaf.any() for leaf in into_carry)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("T", [1, 5, 50])
def test_the_gradient_is_the_numeric_one(name, T):
    memory, (x, reset) = build(name, dtype=torch.float64), stream(T, 0.1, torch.float64)
    carry = carry_of(memory, torch.float64)
    x.requires_grad_()

    def run(x, *parameters):
        out, end = memory(x, carry, reset)
        return out, *(leaf for leaf in tree_leaves(end) if leaf.requires_grad)

    assert torch.autograd.gradcheck(run, [x, *memory.parameters()], fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_large_inputs_give_finite_outputs_and_gradients(name):
    memory, (x, reset) = build(name, 2), stream(70)
    out, end, slopes = gradients(
        lambda m, *a: m(*a), memory, x * 1e4, memory.initial_carry(B), reset
    )
    for leaf in (out, *tree_leaves(end), *slopes):
        assert torch.isfinite(leaf).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_state_stays_float32_under_autocast(name):
    memory, (x, reset) = build(name), stream(70)
    expected, _ = memory(x, carry_of(memory), reset)
    for T in (1, 70):
        with torch.autocast("cpu", torch.bfloat16):
            out, end = memory(x[:T], carry_of(memory), reset[:T])
        assert all(leaf.dtype == torch.float32 for leaf in tree_leaves(end))
        assert (out.float() - expected[:T]).abs().max() < 0.1 * expected.abs().max()
        if out.requires_grad:
            out.float().sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_finds_nothing_wrong(name):
    check_memory(build(name, 2))


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_finite_numbers(name):
    memory = build(name, 2)
    for carry in (memory.initial_carry(B), carry_of(memory)):
        for metric, value in memory.metrics(carry).items():
            assert isinstance(value, float) or value.shape == (), metric
            assert abs(float(value)) < float("inf"), metric
