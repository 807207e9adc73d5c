"""The actor-critic: encoder, memory and heads behind one forward for acting and training."""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor, nn

from retain.errors import UsageError
from retain.memory import MemoryKind, Summary, make_memory
from retain.nn.distributions import Distribution
from retain.nn.encoders import action_mask, make_encoder, orthogonal
from retain.nn.heads import make_head
from retain.nn.normaliser import ObsNormaliser
from retain.nn.stacked import PairMLP
from retain.types import Carry, Obs


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the networks are made of."""

    memory: MemoryKind = "none"
    """What the agent remembers with. Start with lstm where the observation hides something."""
    memory_hidden: int = 128
    """Width of the recurrent state."""
    memory_layers: int = 1
    """Recurrent layers on top of each other; one is nearly always enough."""
    window: int = 8
    """Entries that a window holds, the current one included."""
    summary: Summary = "lstm"
    """How a window becomes features: side by side, by a recurrence, or by attention."""
    separate_memory: bool = False
    """Actor and critic have an encoder and a memory of their own: slower, steadier."""
    shortcut: bool = False
    """The current features also go past the memory to the heads."""
    previous_action: bool = False
    """The network also reads the last action (zero at an episode's start)."""
    previous_reward: bool = False
    """The network also reads the last reward (zero at an episode's start)."""
    encoder: tuple[int, ...] = ()
    """MLP widths before the memory; images always go through the Nature CNN."""
    hidden: tuple[int, ...] = (64, 64)
    """MLP widths after the memory, for the actor and for the critic each."""
    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    """Activation of the MLPs."""
    normalise_obs: bool = False
    """Running mean and variance of vector observations, saved with the model."""

    def __post_init__(self) -> None:
        """Refuses values that cannot mean anything."""
        for name in ("memory_hidden", "memory_layers", "window"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)} (expected at least 1)")


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(NetworkConfig):
    """What an on-policy actor-critic is made of."""

    squash: bool = False
    """Box actions: a tanh-squashed Gaussian instead of one clipped to the bounds."""
    use_sde: bool = False
    """Box actions: generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: int = -1
    """gSDE: new exploration noise every so many steps; -1 = once a segment."""
    log_std_init: float = 0.0
    """Box actions: logarithm of the standard deviation to start from."""


class Torso(nn.Module):
    """Encoder, optional previous action and reward, memory, optional shortcut."""

    def __init__(
        self, observation_space: gym.Space[Any], encoded_action: int, config: NetworkConfig
    ) -> None:
        super().__init__()
        self.encoder = make_encoder(observation_space, config.encoder, config.activation)
        width = int(self.encoder.features)  # type: ignore[arg-type]
        width += encoded_action * config.previous_action + config.previous_reward
        self.memory = make_memory(
            config.memory, width, config.memory_hidden, config.memory_layers,
            window=config.window, summary=config.summary,
        )  # fmt: skip
        self.shortcut = config.shortcut and config.memory != "none"
        self.features = self.memory.features + width * self.shortcut

    def forward(
        self, obs: Obs, previous: list[Tensor], carry: Carry, reset: Tensor
    ) -> tuple[Tensor, Carry]:
        """`[T, B, ...]` to features `[T, B, features]` and the carry after the last step."""
        x = self.encoder.forward(obs)
        if previous:
            x = torch.cat([x, *previous], dim=-1)
        out, carry = self.memory.forward(x, carry, reset)
        return (torch.cat([out, x], dim=-1) if self.shortcut else out), carry


class ActorCritic(nn.Module):
    """A policy and its value function over one timeline.

    Observations are first `prepare`d (normalised); everything else is `forward`, with T = 1 when
    acting and T > 1 in training. The carry is a tuple of torso carries, one or two.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: ActorCriticConfig,
    ) -> None:
        super().__init__()
        if config.separate_memory and config.memory == "none" and not config.encoder:
            # Vector observations without encoder or memory have nothing to separate.
            torsos = 1 if isinstance(observation_space, gym.spaces.Box) else 2
        else:
            torsos = 1 + config.separate_memory
        self.config = config
        probe = make_head(1, action_space)
        self.torsos = nn.ModuleList(
            Torso(observation_space, probe.encoded, config) for _ in range(torsos)
        )
        width: int = self.torsos[0].features  # type: ignore[assignment]
        self.trunks = PairMLP(width, config.hidden, config.activation)
        self.head = make_head(
            self.trunks.features,
            action_space,
            squash=config.squash,
            use_sde=config.use_sde,
            log_std_init=config.log_std_init,
        )
        self.value = orthogonal(nn.Linear(self.trunks.features, 1), 1.0)
        self.normaliser = ObsNormaliser(observation_space) if config.normalise_obs else None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one policy action."""
        return self.head.event_shape

    @property
    def action_dtype(self) -> torch.dtype:
        """Dtype of policy actions."""
        return self.head.dtype

    @property
    def recurrent(self) -> bool:
        """Whether more than the current step can influence an output."""
        return self.config.memory != "none"

    def initial_carry(self, batch_size: int) -> Carry:
        """The carry before an episode's first observation; leaves `[batch_size, ...]`."""
        return tuple(
            torso.memory.initial_carry(batch_size)  # type: ignore[union-attr, operator]
            for torso in self.torsos
        )

    def prepare(self, obs: Obs) -> Obs:
        """Raw observations as the networks read them; the statistics stay as they are."""
        if self.normaliser is None:
            return obs
        out: Obs = self.normaliser(obs)
        return out

    def previous_inputs(
        self, action: Tensor | None, reward: Tensor | None, reset: Tensor
    ) -> list[Tensor]:
        """The previous action and reward as features, zero where an episode starts.

        Args:
            action: `[T, B, ...]` policy action of the step before, or None.
            reward: `[T, B]` reward of the step before, or None.
            reset: `[T, B]` bool.
        Raises:
            UsageError: the network reads one of them and it was not given.
        """
        inputs: list[Tensor] = []
        keep = ~reset.unsqueeze(-1)
        if self.config.previous_action:
            if action is None:
                raise UsageError("this network reads the previous action, which was not given")
            inputs.append(self.head.encode(action) * keep)
        if self.config.previous_reward:
            if reward is None:
                raise UsageError("this network reads the previous reward, which was not given")
            inputs.append(reward.unsqueeze(-1) * keep)
        return inputs

    def forward(
        self,
        obs: Obs,
        carry: Carry,
        reset: Tensor,
        previous_action: Tensor | None = None,
        previous_reward: Tensor | None = None,
    ) -> tuple[Distribution, Tensor, Carry]:
        """One forward for acting and training.

        Args:
            obs: `[T, B, ...]` prepared observations.
            carry: what the step before left; leaves `[B, ...]`.
            reset: `[T, B]` bool, true at the first step of an episode.
            previous_action: `[T, B, ...]` policy actions, if the network reads them.
            previous_reward: `[T, B]`, if the network reads it.
        Returns:
            distribution over `[T, B]` policy actions, value `[T, B]`, carry after the last step.
        """
        previous: list[Tensor] = []
        if self.config.previous_action or self.config.previous_reward:
            previous = self.previous_inputs(previous_action, previous_reward, reset)
        # `forward` itself: around it torch looks for hooks, which at T = 1 costs more than the
        # arithmetic inside.
        features: list[Tensor] = []
        carries: list[Carry] = []
        for torso, torso_carry in zip(self.torsos, carry, strict=True):
            out, after = torso.forward(obs, previous, torso_carry, reset)
            features.append(out)
            carries.append(after)
        actor, critic = self.trunks.forward(features[0], features[-1])
        dist = self.head.forward(actor, action_mask(obs))
        return dist, self.value.forward(critic).squeeze(-1), tuple(carries)
