"""The base of every policy: torsos over one timeline, and actions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from retain.nn.actions import ActionCoder
from retain.nn.distributions import Distribution
from retain.nn.heads import ActionHead
from retain.nn.noise import Source
from retain.nn.normaliser import ObsNormaliser
from retain.nn.torso import NetworkConfig, Torso, previous_inputs
from retain.types import Carry, Obs


class Policy(nn.Module, ABC):
    """Networks that act; `act` is one step of the forward that training unrolls.

    Observations are first `prepare`d (normalised). The carry is a tuple with one entry per torso.
    """

    config: NetworkConfig
    torsos: Sequence[Torso]
    """Encoders and memories, in the order of the carry."""
    coder: ActionCoder
    """Actions as stored, as features, and in the environment's format."""
    normaliser: ObsNormaliser | None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one policy action."""
        return self.coder.event_shape

    @property
    def action_dtype(self) -> torch.dtype:
        """Dtype of policy actions."""
        return self.coder.dtype

    @property
    def recurrent(self) -> bool:
        """Whether more than the current step can influence an output."""
        return self.receptive_field != 1

    @property
    def receptive_field(self) -> int | None:
        """Steps that can influence an output, including the current one; None = unbounded."""
        return self.torsos[0].memory.receptive_field

    @property
    def acting(self) -> int:
        """Number of the torso that actions come from; the others only serve values."""
        return 0

    @property
    def unrolls(self) -> bool:
        """Whether the memories unroll; see `Memory.unrolls`."""
        return self.torsos[0].memory.unrolls

    def initial_carry(self, batch_size: int) -> Carry:
        """The carry before an episode's first observation; leaves `[batch_size, ...]`."""
        return tuple(torso.memory.initial_carry(batch_size) for torso in self.torsos)

    def prepare(self, obs: Obs) -> Obs:
        """Turns raw observations into what the networks read; leaves the statistics unchanged."""
        if self.normaliser is None:
            return obs
        out: Obs = self.normaliser(obs)
        return out

    def previous(self, action: Tensor | None, reward: Tensor | None, reset: Tensor) -> list[Tensor]:
        """The torsos' inputs besides the observation.

        Args:
            action: `[T, B, ...]` policy actions of the previous steps, if the networks read them.
            reward: `[T, B]` rewards of the previous steps, if the networks read them.
        """
        config = self.config
        if not (config.reads_action or config.reads_reward):
            return []
        return previous_inputs(config, self.coder.encode, action, reward, reset)

    @abstractmethod
    def act(
        self,
        obs: Obs,
        carry: Carry,
        reset: Tensor,
        previous_action: Tensor | None,
        previous_reward: Tensor | None,
        *,
        scale: float,
        source: Source,
    ) -> tuple[Tensor, Carry]:
        """One step, with the forward that training unrolls.

        Args:
            obs: `[1, B, ...]` prepared observations.
            reset: `[1, B]`; the previous action `[1, B, ...]` and reward have the same layout.
            scale: amount of exploration: a standard deviation or a probability; 0 = none.
            source: the origin of the exploration's noise.
        Returns:
            policy actions `[B, ...]` and the next carry.
        """


class SegmentPolicy(Policy):
    """A policy whose forward gives a distribution over actions and a value at every step; used for
    collecting whole segments and learning from them."""

    head: ActionHead
    redraw_every: int
    """Steps between two draws of the noise that steps share; -1 means one draw per segment."""

    @abstractmethod
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
            carry: the carry that the previous step left; leaves `[B, ...]`.
            reset: `[T, B]` bool, true at the first step of an episode.
            previous_action: `[T, B, ...]` policy actions, if the network reads them.
            previous_reward: `[T, B]`, if the network reads it.
        Returns:
            distribution over `[T, B]` policy actions, value `[T, B]`, carry after the last step.
        """

    def __call__(
        self,
        obs: Obs,
        carry: Carry,
        reset: Tensor,
        previous_action: Tensor | None = None,
        previous_reward: Tensor | None = None,
    ) -> tuple[Distribution, Tensor, Carry]:
        """Calls `forward`, with types."""
        out: tuple[Distribution, Tensor, Carry] = super().__call__(
            obs, carry, reset, previous_action, previous_reward
        )
        return out
