"""The common part around every loss: ownership of parameters, and the safe step."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from retain.errors import NonFiniteError, UsageError


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


class Adam(torch.optim.Adam):
    """torch's Adam (Kingma and Ba 2015, arXiv:1412.6980), with a step at a third of the cost.

    `quick_step` calls the same fused kernel on the same state, without `step`'s hooks and groupings
    in Python, which at these network sizes cost more than the update.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, eps: float) -> None:
        super().__init__(parameters, lr=lr, eps=eps, fused=True)
        self._lists: tuple[list[Tensor], ...] | None = None

    def quick_step(self, gradients: list[Tensor], divisor: Tensor | None = None) -> None:
        """Takes one step.

        Args:
            gradients: gradients of the parameters, in order, with None left out.
            divisor: divides every gradient first, in the same pass over memory.
        """
        group = self.param_groups[0]
        if self._lists is None or len(gradients) != len(group["params"]):
            if divisor is not None:
                torch._foreach_div_(gradients, divisor)
            for slot in self.state.values():
                slot["step"] = slot["step"].clone()
            self.step()
            self._lists = self._of_all() if len(gradients) == len(group["params"]) else None
            return
        means, squares, steps, counts = self._lists
        torch._foreach_add_(counts, 1)
        torch._fused_adam_(
            group["params"], gradients, means, squares, [], steps,
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
            weight_decay=0.0, eps=group["eps"], amsgrad=False, maximize=False, grad_scale=divisor,
        )  # fmt: skip

    def _of_all(self) -> tuple[list[Tensor], ...]:
        """The state's tensors by kind, and the step counts to add to: a single count for all
        parameters that were always stepped together."""
        slots = [self.state[parameter] for parameter in self.param_groups[0]["params"]]
        counts = [slot["step"] for slot in slots]
        if all(float(count) == float(counts[0]) for count in counts):
            del counts[1:]
            for slot in slots:
                slot["step"] = counts[0]
        kinds = ("exp_avg", "exp_avg_sq", "step")
        return *([slot[key] for slot in slots] for key in kinds), counts

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
        self._lists = None


class SafeStep:
    """Clips the gradient norm and steps, unless a loss or gradient is not finite.

    Args:
        max_norm: the largest global L2 norm of the gradient; None leaves the gradient unchanged.
    """

    def __init__(self, module: nn.Module, optimizer: Adam, max_norm: float | None) -> None:
        check_ownership(module, optimizer)
        self.module, self.optimizer, self.max_norm = module, optimizer, max_norm
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __call__(self, loss: Tensor, parts: dict[str, Tensor]) -> float:
        """Runs backward, checks, clips and steps.

        Args:
            loss: scalar to minimise.
            parts: the loss's terms by name, to name one that is not finite.
        Returns:
            The global gradient norm before clipping.
        Raises:
            NonFiniteError: raised before the optimizer steps; names the tensor.
        """
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        size: float
        value: float
        size, value = torch.stack((norm, loss.detach())).tolist()
        if size - size != 0.0 or value - value != 0.0:  # NaN or infinite
            raise NonFiniteError(self._diagnosis(parts))
        clips = self.max_norm is not None and size > self.max_norm
        self.optimizer.quick_step(gradients, norm / self.max_norm if clips else None)
        return size

    def _diagnosis(self, parts: dict[str, Tensor]) -> str:
        term = named_non_finite(parts.items())
        gradients = ((n, p.grad) for n, p in self.module.named_parameters())
        gradient = named_non_finite(gradients)
        parameter = named_non_finite(self.module.named_parameters())
        if parameter is not None:
            return f"parameter {parameter} is not finite"
        if term is not None:
            return f"{term} is not finite (gradient of {gradient or 'none'})"
        return f"the gradient of {gradient} is not finite"
