"""The common part around every loss: ownership of parameters, and the safe step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from retain.algos.adam import Adam
from retain.errors import UsageError
from retain.ops import native


def falling(first: float, last: float, fraction: float, progress: float) -> float:
    """Falls from `first` to `last`, linearly over the first `fraction` of the run, then stays."""
    done = 1.0 if progress >= fraction else progress / fraction
    return first + (last - first) * done


def check_ownership(module: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    """Checks that every parameter belongs to exactly one optimizer.

    Raises:
        UsageError: a parameter belongs to none or to several; the line names it.
    """
    owners: dict[int, int] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for name, parameter in module.named_parameters():
        count = owners.get(id(parameter), 0)
        if count != 1:
            raise UsageError(f"parameter {name} belongs to {count} optimizers (expected exactly 1)")


def named_non_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity."""
    for name, tensor in named:
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def norms_of(tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor's L2 norm."""
    if torch.compiler.is_compiling():
        return [torch.linalg.vector_norm(tensor) for tensor in tensors]
    return list(torch._foreach_norm(tensors))


def follow(slow: list[Tensor], online: list[Tensor], share: Tensor) -> None:
    """Moves each of the slow tensors a share of the way to the online one."""
    if torch.compiler.is_compiling():  # which cannot fuse the other form with its neighbours
        for one, goal in zip(slow, online, strict=True):
            one.lerp_(goal, share)
    else:
        torch._foreach_lerp_(slow, online, [share] * len(slow))


Together: TypeAlias = Callable[
    ["SafeStep", Sequence[Tensor | None], Tensor, float | Tensor], tuple[Tensor, Tensor]
]


class SafeStep:
    """Clips the gradient norm and steps, unless a loss or gradient is not finite.

    Nothing here waits for the device: the norm is clipped by a divisor of at least 1, and a step
    with a loss or gradient that is not finite is skipped on the device, as are all later ones until
    somebody reads `broken` and asks `diagnosis` for the name.

    Args:
        max_norm: the largest global L2 norm of the gradient; None leaves the gradient unchanged.
        broken: scalar that becomes 1 when a step was skipped; steps may share it.
        kernels: "native" clips and steps float32 on a CPU in one call.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Adam,
        max_norm: float | None,
        broken: Tensor | None = None,
        kernels: native.Kernels = "torch",
    ) -> None:
        check_ownership(module, optimizer)
        self.kernels = kernels
        self.together: Together | None = None
        """Takes the step with the other shards' gradients, if there are any."""
        self.module, self.optimizer, self.max_norm = module, optimizer, max_norm
        self.parameters: list[nn.Parameter] = optimizer.param_groups[0]["params"]
        self.broken = new_flag(next(module.parameters()).device) if broken is None else broken

    def __call__(
        self, loss: Tensor, rate: float | Tensor, *, skip: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs backward, checks, clips and steps.

        Args:
            loss: scalar to minimise.
            rate: the step size, a number or a scalar.
            skip: bool scalar, true to leave out this step only.
        Returns:
            The gradient's norms before clipping: `[P]` each trained parameter's, 0 for one that the
            loss does not reach, and the global one.
        """
        gradients = self.gradients(loss)
        if self.together is not None:
            return self.together(self, gradients, loss, rate)
        return self.apply(gradients, loss, rate, skip=skip)

    def apply(
        self,
        gradients: Sequence[Tensor | None],
        loss: Tensor,
        rate: float | Tensor,
        *,
        skip: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Checks, clips and steps, like a call, with gradients that are known.

        Args:
            gradients: each parameter's gradient in its memory layout, None where the loss does not
                reach it.
        """
        given = [gradient for gradient in gradients if gradient is not None]
        if self._own_kernels(loss, given):
            norms = self.optimizer.native_step(
                given, loss=loss, rate=float(rate), skip=skip, broken=self.broken,
                max_norm=self.max_norm,
            )  # fmt: skip
            return norms[:-1], norms[-1]
        sizes = norms_of(given)
        norm = torch.linalg.vector_norm(torch.stack(sizes))
        whole = norm + loss.detach()
        bad = (whole - whole).ne(0).to(self.broken.dtype)  # NaN or infinite
        self.broken.copy_(torch.maximum(self.broken, bad))
        skipped = self.broken if skip is None else torch.maximum(self.broken, skip.to(bad.dtype))
        divisor = None if self.max_norm is None else (norm / self.max_norm).clamp(min=1.0)
        self.optimizer.quick_step(gradients, rate=rate, divisor=divisor, skip=skipped)
        if len(given) < len(gradients):
            found, nothing = iter(sizes), torch.zeros_like(norm)
            sizes = [nothing if gradient is None else next(found) for gradient in gradients]
        return torch.stack(sizes), norm

    def _own_kernels(self, loss: Tensor, given: Sequence[Tensor]) -> bool:
        """Whether the native kernel steps: for that, the loss must reach every parameter."""
        return (
            self.kernels == "native"
            and native.fits(loss)
            and len(given) == len(self.parameters)
            and self.optimizer.together
        )

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """The gradient of every parameter, None where the loss does not reach it."""
        if torch.compiler.is_compiling():
            return list(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        # Not autograd.grad: gradients in a parameter's slot also have its memory layout, which the
        # fused kernel takes for granted.
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in self.parameters]

    def diagnosis(self, loss: Tensor, terms: Mapping[str, Tensor]) -> str | None:
        """The name of what is not finite in a minibatch's loss, its gradient or the parameters;
        None if all are finite.

        Args:
            loss: the loss, computed again with the parameters as they are.
            terms: the loss's terms by name.
        """
        parameter = named_non_finite(self.module.named_parameters())
        if parameter is not None:
            return f"parameter {parameter} is not finite"
        gradients = dict(zip(self.parameters, self.gradients(loss), strict=True))
        named = ((n, gradients.get(p)) for n, p in self.module.named_parameters())
        gradient = named_non_finite(named)
        term = named_non_finite(terms.items())
        if term is not None:
            return f"{term} is not finite (gradient of {gradient or 'none'})"
        return None if gradient is None else f"the gradient of {gradient} is not finite"


def new_flag(device: torch.device) -> Tensor:
    """A scalar for `SafeStep.broken`."""
    return torch.zeros((), device=device)
