"""Stacked MLPs are so many separate ones, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from retain.nn.stacked import ACTIVATIONS, PairMLP, StackedMLP

ACTIVATE = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "silu": F.silu,
    "none": lambda x: x,
}


def separate(stack, x):
    """The reference: each network's layers written out in double precision."""
    results = []
    for k in range(stack.count):
        h = x[k]
        for layer, activation in enumerate(stack.activations):
            h = h @ stack._parameters[f"weight_{layer}"][k].double()
            h = h + stack._parameters[f"bias_{layer}"][k].double()
            h = ACTIVATE[activation](h)
        results.append(h)
    return torch.stack(results)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("out", [None, 2])
@pytest.mark.parametrize("init", ["orthogonal", "uniform"])
def test_values_and_gradients_are_those_of_separate_networks(activation, out, init):
    torch.manual_seed(0)
    stack = StackedMLP(3, 5, (7, 6), activation, out=out, init=init)
    for name, parameter in stack.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter)
    x = torch.randn(3, 11, 5, requires_grad=True)
    weight = torch.randn(3, 11, stack.features)

    def outcome(y):
        gradients = torch.autograd.grad((y * weight).sum(), [x, *stack.parameters()])
        return [y, *gradients]

    for ours, reference in zip(
        outcome(stack.stacked(x)), outcome(separate(stack, x.double())), strict=True
    ):
        torch.testing.assert_close(ours, reference.to(ours.dtype), atol=2e-6, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(stack.stacked(x), stack.stacked(x.detach()))


def test_no_layers_leave_the_input_as_it_is():
    x = torch.randn(2, 4, 5)
    assert torch.equal(StackedMLP(2, 5, (), "tanh").stacked(x), x)


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


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("width", [7, 256])
def test_the_first_of_them_can_be_computed_alone(kernels, width):
    stack = StackedMLP(3, 5, (width,), "relu", out=1, init="uniform", kernels=kernels)
    x, pull = torch.randn(256, 5, requires_grad=True), torch.randn(2, 256, 1)
    some, every = stack.forward(x, count=2), stack.forward(x)
    assert some.shape == (2, 256, 1)
    torch.testing.assert_close(some, every[:2])
    wanted = [x, *stack.parameters()]
    of_some = torch.autograd.grad((some * pull).sum(), wanted)
    of_every = torch.autograd.grad((every[:2] * pull).sum(), wanted)
    for ours, reference in zip(of_some, of_every, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)
    assert not any(gradient[2].any() for gradient in of_some[1:])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("out", [None, 1])
def test_large_mlps_are_those_of_double_precision(activation, count, out):
    """They go through oneDNN one by one where there is one."""
    torch.manual_seed(0)
    stack = StackedMLP(count, 5, (128, 128), activation, out=out)
    for name, parameter in stack.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter)
    wide = StackedMLP(count, 5, (128, 128), activation, out=out).double()
    wide.load_state_dict(stack.state_dict())
    x = torch.randn(300, 5, requires_grad=True)
    pull = torch.randn(count, 300, stack.features)

    def outcome(net, x):
        y = net.forward(x)
        return [y.detach(), *torch.autograd.grad((y * pull).sum(), [x, *net.parameters()])]

    def relative_gap(ours, reference):
        return float((ours.double() - reference).abs().max() / reference.abs().max())

    double = x.detach().double().requires_grad_()
    for one, other in zip(outcome(stack, x), outcome(wide, double), strict=True):
        assert relative_gap(one, other) < 3e-6
    with torch.no_grad():
        assert torch.equal(stack.forward(x), stack.forward(x.detach()))
    frozen = stack.forward(x, frozen=True)
    (through,) = torch.autograd.grad((frozen * pull).sum(), [x])
    assert relative_gap(through, outcome(wide, double)[1]) < 3e-6


@pytest.mark.parametrize("rows", [4, 600])
@pytest.mark.parametrize("shared", [True, False])
def test_a_pair_is_two_mlps_whatever_its_size(rows, shared):
    torch.manual_seed(0)
    pair = PairMLP(5, (128, 128), "tanh")
    wide = PairMLP(5, (128, 128), "tanh").double()
    wide.load_state_dict(pair.state_dict())
    inputs = [torch.randn(2, rows // 2, 5, requires_grad=True) for _ in range(2 - shared)]
    pulls = torch.randn(2, 2, rows // 2, 128)

    def outcome(net, inputs):
        outputs = net.forward(inputs[0], inputs[-1])
        total = sum((y * pull).sum() for y, pull in zip(outputs, pulls, strict=True))
        return [*outputs, *torch.autograd.grad(total, [*inputs, *net.parameters()])]

    double = [x.detach().double().requires_grad_() for x in inputs]
    for one, other in zip(outcome(pair, inputs), outcome(wide, double), strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        silent = pair.forward(inputs[0], inputs[-1])
    for one, other in zip(silent, pair.forward(inputs[0], inputs[-1]), strict=True):
        assert torch.equal(one, other)
