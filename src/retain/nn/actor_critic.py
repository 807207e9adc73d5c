"""The actor-critic: encoder, memory and heads behind one forward for acting and training."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor, nn

from retain.errors import check_range
from retain.nn.actions import ActionCoder
from retain.nn.distributions import Distribution
from retain.nn.encoders import action_mask, orthogonal
from retain.nn.heads import make_head
from retain.nn.lookup import find_submodules_directly
from retain.nn.noise import Source
from retain.nn.normaliser import ObsNormaliser
from retain.nn.policy import SegmentPolicy
from retain.nn.stacked import PairMLP
from retain.nn.torso import NetworkConfig, Torso
from retain.settings import setting
from retain.types import Carry, Obs


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(NetworkConfig):
    """The settings of an on-policy actor-critic's network."""

    separate_memory: bool = setting(False, needs="several_inputs")
    """Give actor and critic an encoder and a memory each: slower, but steadier."""
    squash: bool = False
    """Box actions: use a tanh-squashed Gaussian instead of one clipped to the bounds."""
    use_sde: bool = False
    """Box actions: explore with generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: int = setting(-1, needs="use_sde")
    """gSDE: steps between draws of new exploration noise; -1 draws once per segment."""
    log_std_init: float = setting(0.0, needs="box_actions")
    """Box actions: initial logarithm of the standard deviation."""
    scale_actions: bool = setting(False, needs="box_actions")
    """Box actions: map the Gaussian's [-1, 1] onto the whole Box, whatever its bounds."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        super().__post_init__()
        if self.sde_sample_freq != -1:
            check_range(self, "sde_sample_freq", low=1)


class ActorCritic(SegmentPolicy):
    """A policy and its value function over one timeline.

    Observations are first `prepare`d (normalised); the rest is `forward`, with T = 1 when acting
    and T > 1 in training. The carry is a tuple of one or two torso carries.
    """

    config: ActorCriticConfig

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: ActorCriticConfig,
    ) -> None:
        super().__init__()
        learns = config.remembers or bool(config.encoder_hidden) or config.encoder != "auto"
        if config.separate_memory and not learns:
            # Vector observations without encoder or memory have nothing to separate.
            torsos = 1 if isinstance(observation_space, gym.spaces.Box) else 2
        else:
            torsos = 1 + config.separate_memory
        self.config = config
        encoded = make_head(1, action_space).coder.encoded
        self.torsos = nn.ModuleList(  # type: ignore[assignment]
            Torso(observation_space, encoded, config) for _ in range(torsos)
        )
        self.trunks = PairMLP(self.torsos[0].features, config.hidden, config.activation)
        self.head = make_head(
            self.trunks.features,
            action_space,
            squash=config.squash,
            use_sde=config.use_sde,
            log_std_init=config.log_std_init,
            unit=config.scale_actions,
        )
        self.value = orthogonal(nn.Linear(self.trunks.features, 1), 1.0)
        self.normaliser = ObsNormaliser(observation_space) if config.normalise_obs else None
        find_submodules_directly(self)

    @property
    def coder(self) -> ActionCoder:  # type: ignore[override]
        """The action coder, which belongs to the head."""
        return self.head.coder

    @property
    def redraw_every(self) -> int:  # type: ignore[override]
        """Steps between two draws of the noise that steps share; -1 means one draw per segment."""
        return self.config.sde_sample_freq

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
        previous = self.previous(previous_action, previous_reward, reset)
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
        """See `Policy.act`; a `scale` of 0 gives the most probable action, any other a sample."""
        dist, _, carry = self(obs, carry, reset, previous_action, previous_reward)
        return (dist.mode() if scale == 0 else dist.sample(source))[0], carry
