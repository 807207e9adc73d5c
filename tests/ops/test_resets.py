"""Zeros at resets, whatever was there."""

import pytest
import torch

from retain.ops.resets import kept_bits, without_resets, zero_resets_, zero_where


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_becomes_zero_and_the_rest_keeps_its_bits(dtype):
    x = torch.tensor([[torch.nan, torch.inf, -1.0], [torch.nan, -torch.inf, 0.1]], dtype=dtype)
    gone = torch.tensor([True, False])
    for out in (
        without_resets(x, kept_bits(gone, x)),
        zero_resets_(x.clone(), kept_bits(gone, x)),
        zero_where(x, gone),
    ):
        assert torch.equal(out[0], torch.zeros(3, dtype=dtype))
        assert torch.equal(out[1].isnan(), x[1].isnan())
        assert torch.equal(out[1, 1:], x[1, 1:])


def test_no_gradient_passes_where_a_row_is_gone():
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    gone = torch.rand(4, 3) < 0.5
    assert torch.autograd.gradcheck(lambda x: zero_where(x, gone), [x])
    (gradient,) = torch.autograd.grad(zero_where(x, gone).sum(), x)
    assert torch.equal(gradient[..., 0] == 0, gone)
