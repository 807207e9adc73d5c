"""The common part around every loss: ownership of parameters, and the safe step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


TINY_MEAN, TINY_SQUARE = 1e-30, 1e-36
"""Moments below these are set to zero: they move no parameter, since the step divides by at least
`eps`. The moments of a unit that no longer learns decay to numbers which a CPU computes with at a
hundredth of its speed, and stay there."""
SWEEP = 64
"""Steps after which the fused kernel's moments are looked through for tiny ones. A moment that was
not tiny then does not become slow before the next time."""


class Adam(torch.optim.Adam):
    """torch's Adam (Kingma and Ba 2015, arXiv:1412.6980), with a step at a third of the cost.

    `quick_step` calls the same fused kernel on the same state, without `step`'s hooks and groupings
    in Python, which at these network sizes cost more than the update. It waits for nothing: whether
    a step is skipped is decided on the device. Moments too small to move a parameter become zero.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, eps: float) -> None:
        super().__init__(parameters, lr=lr, eps=eps, fused=True)
        self._begin()
        self._given = [True] * len(self.param_groups[0]["params"])
        self._lists = self._of(self._given, together=True)

    def _begin(self) -> None:
        """Gives every parameter without a state that of an optimizer that has not stepped yet."""
        for parameter in self.param_groups[0]["params"]:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }

    @torch.no_grad()
    def quick_step(
        self,
        gradients: Sequence[Tensor | None],
        *,
        rate: float | Tensor,
        divisor: Tensor | None = None,
        skip: Tensor | None = None,
    ) -> None:
        """Takes one step.

        Args:
            gradients: gradients of the parameters, in order; None leaves a parameter as it is.
            rate: the step size, a number or a scalar.
            divisor: scalar that divides every gradient first.
            skip: scalar, 1 to change nothing, 0 to step.
        """
        parameters, means, squares, steps, counts = self._used(gradients)
        given = [gradient for gradient in gradients if gradient is not None]
        if skip is None:
            torch._foreach_add_(counts, 1)
        else:
            torch._foreach_add_(counts, [1 - skip] * len(counts))
        (beta1, beta2), eps = self.defaults["betas"], self.defaults["eps"]
        if torch.compiler.is_compiling():
            written_out_adam(
                parameters, given, means, squares, steps, rate=rate, beta1=beta1, beta2=beta2,
                eps=eps, divisor=divisor, skip=skip,
            )  # fmt: skip
            return
        torch._fused_adam_(
            parameters, given, means, squares, [], steps, lr=rate, beta1=beta1, beta2=beta2,
            weight_decay=0.0, eps=eps, amsgrad=False, maximize=False, grad_scale=divisor,
            found_inf=skip,
        )  # fmt: skip
        if counts[0].device.type == "cpu" and float(counts[0]) % SWEEP == 0:
            for mean, square in zip(means, squares, strict=True):
                torch.hardshrink(mean, TINY_MEAN, out=mean)
                torch.threshold_(square, TINY_SQUARE, 0.0)

    @property
    def together(self) -> bool:
        """Whether all parameters have always been stepped together."""
        return len(self._used(self.param_groups[0]["params"])[-1]) == 1

    def native_step(
        self,
        gradients: Sequence[Tensor],
        *,
        loss: Tensor,
        rate: float,
        skip: Tensor | None,
        broken: Tensor,
        max_norm: float | None,
    ) -> Tensor:
        """Clips and takes one step in one call of a compiled kernel; see `native.adam_step`."""
        parameters, means, squares, _, counts = self._used(gradients)
        return native.adam_step(
            parameters, gradients, means, squares, counts[0], loss=loss, broken=broken,
            skip=None if skip is None else skip.to(broken.dtype), rate=rate,
            betas=self.defaults["betas"], eps=self.defaults["eps"], max_norm=max_norm,
            tiny=(TINY_MEAN, TINY_SQUARE),
        )  # fmt: skip

    def _used(self, gradients: Sequence[Tensor | None]) -> tuple[list[Tensor], ...]:
        """Parameters, moments and steps of those with a gradient, and the step counts to add to: a
        single count for all parameters as long as they are always stepped together."""
        used = [gradient is not None for gradient in gradients]
        if self._given != used:
            self._given, self._lists = used, self._of(used, self._together())
        return self._lists

    def _together(self) -> bool:
        """Whether all parameters have been stepped equally often."""
        return len({float(slot["step"]) for slot in self.state.values()}) <= 1

    def _of(self, used: list[bool], together: bool) -> tuple[list[Tensor], ...]:
        parameters = list(compress(self.param_groups[0]["params"], used))
        for slot in self.state.values():
            slot["step"] = slot["step"].clone()
        slots = [self.state[parameter] for parameter in parameters]
        counts = [slot["step"] for slot in slots]
        if all(used) and together:
            del counts[1:]
            for slot in slots:
                slot["step"] = counts[0]
        kinds = ("exp_avg", "exp_avg_sq", "step")
        return parameters, *([slot[key] for slot in slots] for key in kinds), counts

    def tensors(self) -> dict[str, Tensor]:
        """The state as `index.key` -> tensor."""
        slots = self.state_dict()["state"]
        named = {f"{i}.{key}": x for i, slot in slots.items() for key, x in slot.items()}
        return {name: x.clone() if x.dim() == 0 else x for name, x in named.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restores what `tensors` returned."""
        saved = self.state_dict()
        saved["state"] = {}
        parameters = [p for group in self.param_groups for p in group["params"]]
        for name, value in tensors.items():
            index, key = name.split(".")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                # In the parameter's own memory layout: the fused kernel walks both side by side.
                value = torch.empty_like(parameter).copy_(value)
            saved["state"].setdefault(int(index), {})[key] = value
        self.load_state_dict(saved)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Like torch's; the next step looks up its tensors again."""
        super().load_state_dict(state_dict)
        self._begin()
        self._lists = self._of(self._given, self._together())


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


def written_out_adam(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    rate: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    divisor: Tensor | None,
    skip: Tensor | None,
) -> None:
    """Adam's step in plain operations, which a compiler can fuse with its neighbours; the fused
    kernel is opaque to it. The numbers agree to rounding."""
    kept = None if skip is None else skip > 0
    for parameter, gradient, mean, square, step in zip(
        parameters, gradients, means, squares, steps, strict=True
    ):
        size, root = rate / (1 - beta1**step), (1 - beta2**step).sqrt()
        if divisor is not None:
            gradient = gradient / divisor
        first = F.hardshrink(torch.lerp(mean, gradient, 1 - beta1), TINY_MEAN)
        second = F.threshold(beta2 * square + (1 - beta2) * gradient * gradient, TINY_SQUARE, 0.0)
        moved = parameter - size * first / (second.sqrt() / root + eps)
        for old, new in ((parameter, moved), (mean, first), (square, second)):
            old.copy_(new if kept is None else torch.where(kept, old, new))


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
