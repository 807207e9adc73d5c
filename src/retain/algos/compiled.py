"""`--compile`: an update's gradient step as one graph of torch.compile.

The step is the same code that runs eagerly: loss, gradient, clipping, optimizer and target
networks. Whatever changes from call to call enters the graph as a tensor: the batch, the step
sizes, the progress of the schedules, and the noise, which is drawn before. A memory's unroll is one
operation of the graph (`nn.opaque`). Numbers differ from the eager ones by rounding, and are the
same in every process, so the setting is a part of a run's identity.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor, nn

from retain.errors import UsageError
from retain.nn.noise import Drawn, Recorder, Source, drawn
from retain.nn.opaque import OpaqueUnroll
from retain.nn.torso import Torso

Result = TypeVar("Result")


class Steps(Protocol):
    """The part of an update that a compiled step needs."""

    generator: Generator
    source: Source
    config: Any

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Every optimizer by name."""


class CompiledStep(Generic[Result]):
    """Runs `step(batch, *settings)` compiled.

    Settings are numbers or mappings of numbers, which become scalars on the device, or bools, each
    of whose values has a graph of its own. Batches of another size than the first run eagerly: only
    the odd last minibatch of a pass has one, and a graph for any size would be slower.

    Args:
        module: the networks that the step reads and changes.
        size: the number of a batch's pieces.
    Raises:
        UsageError: this machine has no compiler, or a schedule inside the loss is a function.
    """

    def __init__(
        self,
        owner: Steps,
        module: nn.Module,
        step: Callable[..., Result],
        size: Callable[[Any], int],
    ) -> None:
        check_compiler(owner.generator.device)
        _check_schedules(owner.config)
        self.owner, self.module, self.step, self.size = owner, module, step, size
        self.usual: int | None = None
        self.noise: dict[tuple[bool, ...], list[torch.Size]] = {}
        """The shapes of the noise that each graph reads."""
        for part in module.modules():
            if isinstance(part, Torso) and not part.stateless:
                part.unroll = OpaqueUnroll(part.memory)
        torch._dynamo.config.trace_autograd_ops = True  # gradients are a part of the graph
        cuda = owner.generator.device.type == "cuda"
        self.graph = torch.compile(
            self._given_noise, fullgraph=True, dynamic=False,
            mode="reduce-overhead" if cuda else "default",
        )  # fmt: skip

    def _given_noise(self, noise: list[Tensor], batch: Any, *settings: Any) -> Result:
        self.owner.source = Drawn(noise)
        return self.step(batch, *settings)

    def __call__(self, batch: Any, *settings: Any) -> Result:
        """The result of the step."""
        self.usual = self.size(batch) if self.usual is None else self.usual
        if self.size(batch) != self.usual:
            return self.step(batch, *settings)
        variant = tuple(one for one in settings if isinstance(one, bool))
        if variant not in self.noise:
            self.noise[variant] = self._rehearse(batch, settings)
        generator = self.owner.generator
        noise = drawn(self.noise[variant], generator)
        try:
            return self.graph(noise, batch, *(scalars(s, generator.device) for s in settings))
        finally:
            self.owner.source = generator

    def _rehearse(self, batch: Any, settings: tuple[Any, ...]) -> list[torch.Size]:
        """The shapes of the noise that a step draws, from an eager step that is then undone."""
        generator = self.owner.generator
        drawn_so_far = generator.get_state()
        before = [(x, x.clone()) for x in self._written()]
        self.owner.source = recorder = Recorder(generator)
        try:
            self.step(batch, *settings)
        finally:
            self.owner.source = generator
            generator.set_state(drawn_so_far)
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)
        return recorder.shapes

    def _written(self) -> list[Tensor]:
        """Every tensor that a step may change."""
        held = list(self.module.state_dict(keep_vars=True).values())
        for optimizer in self.owner.optimizers.values():
            held += [x for slot in optimizer.state.values() for x in slot.values()]
        return [tensor.detach() for tensor in held]


def scalars(setting: Any, device: torch.device) -> Any:
    """Numbers as scalars on the device; bools stay."""
    if isinstance(setting, bool):
        return setting
    if isinstance(setting, Mapping):
        return {name: scalars(value, device) for name, value in setting.items()}
    return torch.tensor(setting, dtype=torch.float32, device=device)


def check_compiler(device: torch.device) -> None:
    """Checks that torch.compile can work here.

    Raises:
        UsageError: there is no C++ compiler, or no Triton for a GPU.
    """
    if device.type == "cuda":
        if not torch.utils._triton.has_triton():
            raise UsageError("compile needs Triton on a GPU, which is not installed")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        text = "compile needs a C++ compiler, and this machine has none (install g++, or set CXX)"
        raise UsageError(text) from None


def _check_schedules(config: Any) -> None:
    for name in ("clip_schedule", "entropy_schedule"):
        if ":" in (schedule := getattr(config, name, "")):
            raise UsageError(
                f"{name} is the function {schedule}, which cannot be compiled (expected constant, "
                "linear or cosine, or compile off)"
            )
