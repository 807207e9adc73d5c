"""Clipping, the check for numbers that are not finite, and Adam, in one call."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from retain.ops.native.library import library, pointers


def adam_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    count: Tensor,
    *,
    loss: Tensor,
    broken: Tensor,
    skip: Tensor | None,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    max_norm: float | None,
    tiny: tuple[float, float],
) -> Tensor:
    """Takes a step of Adam (Kingma and Ba 2015, arXiv:1412.6980) on contiguous float32 tensors of a
    CPU, unless it must not.

    Args:
        means, squares: the moments of each parameter.
        count: scalar, the number of steps so far.
        loss: scalar; if it or the gradient's norm is not finite, `broken` becomes 1.
        broken: scalar; nothing is stepped unless it is 0.
        skip: scalar that leaves out this step unless it is 0; None for 0.
        max_norm: the largest global L2 norm of the gradient.
        tiny: means and squares below these become 0.
    Returns:
        `[P + 1]` the norm of each gradient, and of all of them, before clipping.
    Raises:
        NativeError: the kernels cannot be built.
    """
    norms = count.new_empty(len(parameters) + 1)
    loss = loss.detach().contiguous()
    with torch.no_grad():
        library().adam_step(
            len(parameters), (ctypes.c_long * len(parameters))(*(p.numel() for p in parameters)),
            pointers(parameters), pointers(gradients), pointers(means), pointers(squares),
            count.data_ptr(), loss.data_ptr(), broken.data_ptr(),
            None if skip is None else skip.data_ptr(), norms.data_ptr(), rate, *betas, eps,
            max_norm or 0.0, *tiny,
        )  # fmt: skip
    return norms
