"""The written-out recurrence is torch's, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from retain.ops.gru import gru


@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (1, 3), (7, 1), (20, 4)])
def test_values_and_gradients_are_torchs(steps, rows):
    torch.manual_seed(0)
    D, H = 5, 6
    x = torch.randn(steps, rows, D, dtype=torch.float64, requires_grad=True)
    state = torch.randn(1, rows, H, dtype=torch.float64, requires_grad=True)
    shapes = ((3 * H, D), (3 * H, H), (3 * H,), (3 * H,))
    weights = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    pull = torch.randn(steps, rows, H, dtype=torch.float64)

    def outcome(y):
        return [y, *torch.autograd.grad((y * pull).sum(), [x, state, *weights])]

    pre = F.linear(x, weights[0], weights[2])
    ours = outcome(gru(pre, state[0], weights[1], weights[3]))
    theirs = outcome(torch.gru(x, state, weights, True, 1, 0.0, True, False, False)[0])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        assert torch.equal(gru(pre, state[0], weights[1], weights[3]), ours[0])
