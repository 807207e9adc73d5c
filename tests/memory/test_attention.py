"""Attention over the last steps as a memory: how far it reaches, and what absorbing leaves."""

import math

import pytest
import torch

from retain.memory import BandedAttention

T, B, D, H, L = 20, 2, 3, 8, 4


def build(layers, length=L):
    torch.manual_seed(0)
    return BandedAttention(D, hidden=H, layers=layers, length=length, heads=2)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gradients_reach_back_exactly_to_the_receptive_field(layers):
    memory = build(layers)
    x = torch.randn(T, B, D, requires_grad=True)
    out, _ = memory(x, memory.initial_carry(B), torch.zeros(T, B, dtype=torch.bool))
    out[-1].square().sum().backward()
    reached = x.grad.abs().sum((1, 2)) > 0
    assert reached.tolist() == [t >= T - memory.receptive_field for t in range(T)]


@pytest.mark.parametrize("layers", [1, 2])
def test_absorb_leaves_the_carry_of_a_forward(layers):
    memory, x = build(layers), torch.randn(T, B, D)
    reset = torch.rand(T, B) < 0.2
    _, carry = memory(x, memory.initial_carry(B), reset)
    for a, b in zip(carry, memory.absorb(x, memory.initial_carry(B), reset), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_metrics_of_a_flat_and_of_a_pointed_bias():
    memory = build(1)
    with torch.no_grad():
        memory.blocks[0].bias.zero_()
        flat = memory.metrics(memory.initial_carry(B))
        memory.blocks[0].bias[:, 2] = 100.0
        pointed = memory.metrics(memory.initial_carry(B))
    assert flat["attention_entropy"] == pytest.approx(math.log(L))
    assert flat["attention_distance"] == pytest.approx(1.5)
    assert pointed["attention_entropy"] == pytest.approx(0.0, abs=1e-6)
    assert pointed["attention_distance"] == pytest.approx(2.0)


def test_heads_fade_over_horizons_from_two_steps_to_all():
    torch.manual_seed(0)
    bias = BandedAttention(D, hidden=H, layers=1, length=64, heads=4).blocks[0].bias.detach()
    horizon = torch.tensor([[2.0], [2 * 32 ** (1 / 3)], [2 * 32 ** (2 / 3)], [64.0]])
    noise = bias + torch.arange(64) / horizon
    assert noise.mean(1).abs().max() < 0.5
    assert noise.std(1) == pytest.approx([1.0] * 4, abs=0.3)


def test_the_convolution_is_rebuilt_with_the_rest_of_the_past():
    memory, x = build(1), torch.randn(T, B, D)
    reset = torch.zeros(T, B, dtype=torch.bool)
    whole, _ = memory(x, memory.initial_carry(B), reset)
    for reach in (memory.receptive_field, memory.receptive_field - 1):
        part, _ = memory(x[-reach:], memory.initial_carry(B), reset[-reach:])
        same = torch.allclose(part[-1], whole[-1], atol=1e-6)
        assert same == (reach == memory.receptive_field)
