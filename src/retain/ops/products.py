"""Large float32 products on a CPU, in the faster of the two libraries that torch includes.

torch sends float32 products to MKL, which leaves AVX-512 unused on many processors other than
Intel's. oneDNN, which torch uses for convolutions, uses AVX-512 everywhere and is up to twice as
fast there (benchmarks/cpu.py). Small products stay with MKL, since a call of oneDNN costs more; and
all do on an Intel processor, where MKL is as fast on one thread and faster on several.
"""

import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 1 << 22
"""Number of multiplications from which oneDNN's call pays off: twice 256 x 128 x 64, where a layer
with its gradient takes equally long either way."""


def _has_onednn() -> bool:
    """Whether torch was built with oneDNN's linear layer and the processor has AVX-512."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return wide and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _is_intel() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return "GenuineIntel" in (cpuinfo.read_text() if cpuinfo.exists() else platform.processor())


HAS_ONEDNN = _has_onednn()
ONEDNN = HAS_ONEDNN and not _is_intel()
"""Whether large products go to oneDNN here."""


def is_large(x: Tensor, rows: int, weights: int) -> bool:
    """Whether the product of `rows` rows like x's with `weights` weights goes to oneDNN."""
    return (
        isinstance(rows, int)  # and no symbol: the graph for any batch has one kind of product
        and rows * weights >= LARGE
        and ONEDNN
        and x.dtype == torch.float32
        and x.device.type == "cpu"
    )


def large_product(
    a: Tensor, b: Tensor, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """`activation(a @ b + bias)` by oneDNN, without a gradient.

    Args:
        a: `[M, K]`, in any memory layout, like b.
        b: `[K, N]`
        bias: `[N]`
        activation: "none", "relu" or "tanh".
    """
    out: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.mT, bias, activation, [], "")
    return out


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` of two matrices or two stacks of matrices, without a gradient."""
    if a.dim() == 3:
        return torch.bmm(a, b)
    return large_product(a, b) if is_large(a, a.shape[0], b.numel()) else torch.mm(a, b)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return large_product(x, weight.mT, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        into_x, into_weight, _ = ctx.needs_input_grad
        return (
            matmul(gradient, weight) if into_x else None,
            matmul(gradient.mT, x) if into_weight else None,
            gradient.sum(0),
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x @ weight.T + bias`, like `torch.nn.functional.linear`.

    Args:
        x: `[..., in]`
        weight: `[out, in]`
        bias: `[out]`
    Returns:
        `[..., out]`
    """
    rows = x.numel() // x.shape[-1]
    own = torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling()
    if own or not is_large(x, rows, weight.numel()):
        return F.linear(x, weight, bias)
    out: Tensor = _Linear.apply(x.reshape(rows, -1), weight, bias)  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:-1], -1)
