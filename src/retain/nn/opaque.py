"""A memory's unroll as one operation that a compiler does not look into.

Unrolls depend on their data (where episodes end decides the layout of a fused call), and are fast
already. So a compiled step calls the memory as it is, and compiles what surrounds it. Any memory
works, a stranger's included: the operation's derivative is the memory's own.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from retain.memory import Memory
from retain.types import Carry, tree_leaves, tree_like

_DISPATCH = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
"""How torch dispatches outside any operation; inside one it records no derivatives."""

_memories: WeakValueDictionary[int, Memory] = WeakValueDictionary()
_carries: dict[int, Carry] = {}
"""An example of each memory's carry, for its structure."""
_numbers = count()
_unrolled: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
"""Outputs and inputs of unrolls that wait for their gradient, by number."""


def _own(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs, contiguous, and none of them sharing memory with an input or another output, as
    the compiler takes for granted."""
    taken = {x.untyped_storage().data_ptr() for x in inputs}
    fresh = []
    for x in outputs:
        whole = x.detach().contiguous()
        if whole.untyped_storage().data_ptr() in taken:
            whole = whole.clone()
        taken.add(whole.untyped_storage().data_ptr())
        fresh.append(whole)
    return fresh


@torch.library.custom_op("retain::unroll", mutates_args=())
def _unroll(
    x: Tensor,
    carry: Sequence[Tensor],
    reset: Tensor,
    parameters: Sequence[Tensor],
    memory: int,
    learns: bool,
) -> list[Tensor]:
    """Features, the carry's leaves, and the number under which the derivative is kept."""
    inputs = [leaf.detach().requires_grad_(learns) for leaf in (x, *carry)]
    before = tree_like(_carries[memory], inputs[1:])
    with torch._C._ForceDispatchKeyGuard(*_DISPATCH), torch.set_grad_enabled(learns):
        out, after = _memories[memory].forward(inputs[0], before, reset)
    outputs, number = [out, *tree_leaves(after)], next(_numbers)
    if learns:
        _unrolled[number] = outputs, [*inputs, *_memories[memory].parameters()]
    return [*_own(outputs, inputs), torch.tensor(number)]


@_unroll.register_fake
def _(
    x: Tensor,
    carry: Sequence[Tensor],
    reset: Tensor,
    parameters: Sequence[Tensor],
    memory: int,
    learns: bool,
) -> list[Tensor]:
    out = x.new_empty(*x.shape[:2], _memories[memory].features)
    after = [leaf.new_empty(leaf.shape) for leaf in carry]
    return [out, *after, torch.empty((), dtype=torch.int64)]


@torch.library.custom_op("retain::unroll_backward", mutates_args=())
def _backward(number: Tensor, gradients: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """The gradients with respect to x, the carry's leaves and the parameters, which `like` are."""
    outputs, inputs = _unrolled.pop(int(number))
    pairs = [(out, g) for out, g in zip(outputs, gradients, strict=True) if out.requires_grad]
    with torch._C._ForceDispatchKeyGuard(*_DISPATCH):
        found = torch.autograd.grad(
            [out for out, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True
        )
    whole = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]
    return _own(whole, gradients)


@_backward.register_fake
def _(number: Tensor, gradients: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    return [one.new_empty(one.shape) for one in like]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, carry, _, parameters, _, _ = inputs
    ctx.carries = len(carry)
    ctx.save_for_backward(output[-1], x, *carry, *parameters)


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    number, *like = ctx.saved_tensors
    found = _backward(number, gradients[:-1], like)
    rest = 1 + ctx.carries
    return found[0], found[1:rest], None, found[rest:], None, None


_unroll.register_autograd(_differentiate, setup_context=_keep)


class OpaqueUnroll:
    """`memory.forward` as one operation, for one memory."""

    def __init__(self, memory: Memory) -> None:
        self.number = next(_numbers)
        _memories[self.number] = memory
        _carries[self.number] = memory.initial_carry(1)

    def __call__(
        self, memory: Memory, x: Tensor, carry: Carry, reset: Tensor
    ) -> tuple[Tensor, Carry]:
        """See `Memory.forward`."""
        if not torch.compiler.is_compiling():
            return memory.forward(x, carry, reset)
        parameters = list(memory.parameters())
        learns = x.requires_grad or any(parameter.requires_grad for parameter in parameters)
        out, *rest = _unroll(
            x, tree_leaves(carry), reset, parameters, self.number,
            learns and torch.is_grad_enabled(),
        )  # fmt: skip
        return out, tree_like(carry, rest[:-1])
