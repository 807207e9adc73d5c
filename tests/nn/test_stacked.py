"""Stacked MLPs are so many separate ones, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from retain.nn.stacked import ACTIVATIONS, StackedMLP

ACTIVATE = {"tanh": torch.tanh, "relu": torch.relu, "elu": F.elu, "silu": F.silu}


def separate(stack, x, out):
    """The reference: each network's layers written out in double precision."""
    results = []
    for k in range(stack.count):
        h = x[k]
        for layer in range(stack.depth):
            h = h @ stack._parameters[f"weight_{layer}"][k].double()
            h = h + stack._parameters[f"bias_{layer}"][k].double()
            if not (out and layer == stack.depth - 1):
                h = ACTIVATE[stack.activation_name](h)
        results.append(h)
    return torch.stack(results)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("out", [None, 2])
@pytest.mark.parametrize("init", ["orthogonal", "uniform"])
def test_values_and_gradients_are_those_of_separate_networks(activation, out, init):
    torch.manual_seed(0)
    stack = StackedMLP(3, 5, (7, 6), activation, out=out, init=init)
    stack.activation_name = activation
    for name, parameter in stack.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter)
    x = torch.randn(3, 11, 5, requires_grad=True)
    weight = torch.randn(3, 11, stack.features)

    def outcome(y):
        gradients = torch.autograd.grad((y * weight).sum(), [x, *stack.parameters()])
        return [y, *gradients]

    for ours, reference in zip(
        outcome(stack.stacked(x)), outcome(separate(stack, x.double(), out)), strict=True
    ):
        torch.testing.assert_close(ours, reference.to(ours.dtype), atol=2e-6, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(stack.stacked(x), stack.stacked(x.detach()))


def test_the_same_numbers_with_and_without_a_gradient():
    stack = StackedMLP(2, 5, (7,), "tanh")
    x = torch.randn(4, 3, 5)
    with torch.no_grad():
        silent = stack.forward(x)
    assert torch.equal(stack.forward(x), silent)
    assert silent.shape == (2, 4, 3, 7)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_frozen_passes_the_gradient_through_to_the_input_alone(activation):
    stack = StackedMLP(2, 5, (7,), activation, out=1)
    x = torch.randn(3, 5, requires_grad=True)
    stack.forward(x, frozen=True).sum().backward()
    assert x.grad.any()
    assert all(parameter.grad is None for parameter in stack.parameters())
    through = x.grad.clone()
    x.grad = None
    stack.forward(x).sum().backward()
    torch.testing.assert_close(x.grad, through)
