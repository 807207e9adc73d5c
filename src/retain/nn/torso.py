"""The first part of every network: an encoder, the previous action and reward, and a memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor, nn

from retain.errors import UsageError, check_range
from retain.memory import Memory, Summary, make_memory, memory_class
from retain.memory.registry import read_options
from retain.nn.encoders import encoder_class, make_encoder
from retain.ops.native import Kernels, NativeError, library
from retain.ranges import OneOf
from retain.settings import setting
from retain.types import Carry, Obs


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The settings that every network has."""

    memory: str = "none"
    """Memory: none, lstm, gru, window, any other registered name, or module:name for a class. Start
    with lstm if observations hide something."""
    memory_hidden: int = setting(128, search=OneOf(32, 64, 128, 256))
    """Width of the recurrent state."""
    memory_layers: int = 1
    """Number of recurrent layers; one is nearly always enough."""
    memory_options: tuple[str, ...] = ()
    """Settings that only this memory has, each as name=value (docs/memory.md lists them)."""
    window: int = setting(8, search=OneOf(4, 8, 16, 32))
    """Number of steps that a window holds, including the current one."""
    summary: Summary = "lstm"
    """How a window becomes features: concatenation, a recurrence, or attention."""
    shortcut: bool = setting(False, needs="memory")
    """Pass the current features to the heads directly as well as through the memory."""
    previous_action: bool = False
    """Feed the last action to the network (zero at an episode's start)."""
    previous_reward: bool = False
    """Feed the last reward to the network (zero at an episode's start)."""
    encoder: str = "auto"
    """Encoder of observations: auto (chosen by their space), mlp, grid, nature, impala, any other
    registered name, or module:name for a class."""
    encoder_hidden: tuple[int, ...] = ()
    """MLP widths before the memory, for vectors; empty passes vectors through unchanged."""
    precision: Literal["float32", "bfloat16"] = setting("float32", needs="images")
    """Precision of the products in image encoders; bfloat16 is twice as fast on recent CPUs."""
    hidden: tuple[int, ...] = (64, 64)
    """MLP widths after the memory, the same for the actor and the critic."""
    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    """Activation of the MLPs."""
    compile: bool = setting(False, fixed="it is a part of the run's identity")
    """Compile the gradient step with torch.compile: it takes about 20 s at the start (3 s from the
    cache), and pays from some 20,000 gradient steps on."""
    kernels: Kernels = setting("torch", needs="cpu", fixed="it is a part of the run's identity")
    """Kernels of float32 on a CPU: torch's, or native ones for an LSTM, a GRU, MLPs of tanh or relu
    and the optimizer's step. Those are compiled at their first use, by a C++ compiler."""
    normalise_obs: bool = setting(False, needs="normalised")
    """Normalise vectors, and the channels of small images of bytes, by a running mean and variance,
    saved with the model."""

    @property
    def remembers(self) -> bool:
        """Whether more than the current step can influence an output."""
        return memory_class(self.memory).receptive_field != 1

    @property
    def reads_action(self) -> bool:
        """Whether the network reads the previous action."""
        return self.previous_action

    @property
    def reads_reward(self) -> bool:
        """Whether the network reads the previous reward."""
        return self.previous_reward

    def small(self) -> dict[str, Any]:
        """Settings for an agent of the same kind that trains only briefly, for the doctor."""
        return {}

    def probing(self) -> dict[str, Any]:
        """Settings that let the agent learn the doctor's probes."""
        return {}

    def short_segments(self) -> dict[str, Any]:
        """Settings for the doctor with segments so short that a cue lies in an earlier one."""
        return {}

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        check_range(
            self, "memory_hidden", "memory_layers", "window", "encoder_hidden", "hidden", low=1
        )
        read_options(memory_class(self.memory), self.memory_options)
        encoder_class(self.encoder)


def straight(memory: Memory, x: Tensor, carry: Carry, reset: Tensor) -> tuple[Tensor, Carry]:
    """`memory.forward`."""
    return memory.forward(x, carry, reset)


def check_kernels(kernels: Kernels) -> None:
    """Builds or loads the native kernels, if they are asked for.

    Raises:
        UsageError: they cannot be built here; the line says why.
    """
    if kernels == "native":
        try:
            library()
        except NativeError as error:
            raise UsageError(f"kernels is 'native', but {error}") from None


class Torso(nn.Module):
    """Encoder, optional previous action and reward, memory, optional shortcut."""

    unroll: Callable[[Memory, Tensor, Carry, Tensor], tuple[Tensor, Carry]] = staticmethod(straight)
    """How the memory runs; a compiled step replaces it by an operation that is not traced."""

    def __init__(
        self, observation_space: gym.Space[Any], encoded_action: int, config: NetworkConfig
    ) -> None:
        super().__init__()
        check_kernels(config.kernels)
        self.encoder = make_encoder(
            observation_space,
            config.encoder_hidden,
            config.activation,
            config.precision,
            encoder=config.encoder,
        )
        width = self.encoder.features
        width += encoded_action * config.reads_action + config.reads_reward
        self.memory = make_memory(
            config.memory, width, config.memory_hidden, config.memory_layers,
            window=config.window, summary=config.summary, kernels=config.kernels,
            options=config.memory_options,
        )  # fmt: skip
        self.stateless = not config.remembers
        self.shortcut = config.shortcut and not self.stateless
        self.features = self.memory.features + width * self.shortcut

    def forward(
        self, obs: Obs, previous: list[Tensor], carry: Carry, reset: Tensor
    ) -> tuple[Tensor, Carry]:
        """`[T, B, ...]` to features `[T, B, features]` and the carry after the last step."""
        x = self.encoder.forward(obs)
        if previous:
            x = torch.cat([x, *previous], dim=-1)
        out, carry = self.unroll(self.memory, x, carry, reset)
        return (torch.cat([out, x], dim=-1) if self.shortcut else out), carry

    def absorb(self, obs: Obs, previous: list[Tensor], carry: Carry, reset: Tensor) -> Carry:
        """The carry after T steps, without computing the features."""
        if self.stateless:
            return carry
        x = self.encoder.forward(obs)
        if previous:
            x = torch.cat([x, *previous], dim=-1)
        if torch.compiler.is_compiling():  # as an operation that is not traced
            return self.unroll(self.memory, x, carry, reset)[1]
        return self.memory.absorb(x, carry, reset)


def previous_inputs(
    config: NetworkConfig,
    encode: Callable[[Tensor], Tensor],
    action: Tensor | None,
    reward: Tensor | None,
    reset: Tensor,
) -> list[Tensor]:
    """The previous action and reward as features, zero where an episode starts.

    Args:
        encode: policy actions to features `[T, B, A]`.
        action: `[T, B, ...]` policy action of the previous step, or None.
        reward: `[T, B]` reward of the previous step, or None.
        reset: `[T, B]` bool.
    Raises:
        UsageError: the network reads one of them, and it is missing.
    """
    inputs: list[Tensor] = []
    drop = reset.unsqueeze(-1)
    if config.reads_action:
        if action is None:
            raise UsageError("this network reads the previous action, which was not given")
        inputs.append(encode(action).masked_fill(drop, 0.0))
    if config.reads_reward:
        if reward is None:
            raise UsageError("this network reads the previous reward, which was not given")
        inputs.append(reward.unsqueeze(-1).masked_fill(drop, 0.0))
    return inputs
