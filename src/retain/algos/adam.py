"""Adam, with a step at a third of the cost of torch's."""

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.ops import native

TINY_MEAN, TINY_SQUARE = 1e-30, 1e-36
"""Moments below these are set to zero: they move no parameter, since the step divides by at least
`eps`. The moments of a unit that no longer learns decay to denormal numbers, with which a CPU
computes many times slower, and stay there."""
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
