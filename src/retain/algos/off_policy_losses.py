"""What an off-policy algorithm learns from pieces of the timeline: features under memory, n-step
targets, the losses' parts, and priorities."""

from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import torch
from torch import Tensor

from retain.algos.contract import Update
from retain.algos.off_policy_config import OffPolicyConfig
from retain.algos.pieces import Batch, Pieces
from retain.data.experience import Experience
from retain.errors import UsageError
from retain.nn.q_networks import Actor, OffPolicyNets
from retain.nn.torso import Torso
from retain.ops import n_step_return, q_loss
from retain.types import Carry, Obs


class OffPolicyLosses(Update[Experience]):
    """The losses of an off-policy algorithm. Subclasses define the value of successors and, with an
    actor, its loss."""

    METRICS: ClassVar[tuple[str, ...]] = (
        "critic_loss", "q_mean", "grad_norm", "actor_loss", "masked_fraction",
    )  # fmt: skip
    """Names of the metrics that `update` returns, some not at every call."""
    action_space: ClassVar[type[gym.Space[Any]]] = gym.spaces.Box
    """The kind of action space that the algorithm can learn."""
    others: ClassVar[str]
    """The alternative for other action spaces, for the error line."""
    actor: ClassVar[type[Actor] | None]
    """The class of the actor; None acts greedily on the critic's values."""
    critics: ClassVar[int]
    target_actor: ClassVar[bool] = False
    """Whether the target networks include a copy of the actor."""
    checks: ClassVar[tuple[str, ...]] = (
        "replay",
        "starts",
        "actor alone",
        "targets",
        "replay's bootstrap",
    )
    probe_share = 0.25
    reads_after: bool = False
    """Whether a target reads the online critic's features at the successors."""
    config: OffPolicyConfig
    nets: OffPolicyNets
    pieces: Pieces
    """The form of the pieces that are sampled."""

    @abstractmethod
    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """The target value of each successor, `[length + n - 1, N]`, or a sample of its return,
        `[length + n - 1, N, M]`; without gradient.

        Args:
            after: `[length + n - 1, N, F]` the target critic's features.
            actor_after: the inputs of the target's policy; None if they are `after` as well.
        """

    def critic_loss(self, batch: Batch, value: Tensor, target: Tensor) -> Tensor:
        """The critics' loss, summed over them.

        Args:
            value: `[K, length, N, ...]` the result of `predicted`.
            target: `[length, N, ...]` the result of `target`.
        """
        return q_loss(
            value=value,
            target=target,
            weight=batch.sample.weight,
            mask=batch.mask,
            huber=self.config.huber,
        )

    def error(self, value: Tensor, target: Tensor) -> Tensor:
        """`[length, N]` the critics' error, for priorities."""
        return (value - target).abs().mean(0)

    def actor_loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor's loss, and metrics.

        Args:
            features: `[length, N, F]` the actor's inputs, with the gradient that belongs to the
                actor.
        """
        raise NotImplementedError

    def predicted(self, batch: Batch) -> Tensor:
        """`[K, length, N]` values of the actions taken."""
        critic, action = self.nets.critic, batch.action
        return critic.pick(critic.forward(batch.features, action), action)

    def perceive(self, batch: Batch) -> None:
        """Computes the critic's features of a batch."""
        rows = batch.length + self.config.n_step * self.reads_after
        features = self._unroll(self.nets.critic.torso, batch, batch.carries[0], rows)
        batch.features = features[: batch.length]
        if self.reads_after:
            batch.features_after = features[1:].detach()

    def actor_features(self, batch: Batch) -> Tensor:
        """`[length, N, F]` the actor's inputs, with the gradient that belongs to the actor."""
        torsos = self.nets.torsos
        if len(torsos) == 1:
            return batch.features.detach()
        return self._unroll(torsos[1], batch, batch.carries[1], batch.length)

    def _unroll(
        self, torso: Torso, batch: Batch, carry: Carry, rows: int | None = None, skip: int = 0
    ) -> Tensor:
        """Features from row `before + skip` on: `rows` of them, or all to the end."""
        first = batch.before + skip
        if first and not torso.stateless:
            obs, previous, reset = batch.part(0, first)
            # History only brings a stored carry up to date: no gradient is due there. A window's
            # history *is* the sample, and gets its gradient.
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.pieces.history_learns):
                carry = torso.absorb(obs, previous, carry, reset)
        last = None if rows is None else first + rows
        obs, previous, reset = batch.part(first, last)
        return torso.forward(obs, previous, carry, reset)[0]

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """`[length, N]` n-step targets."""
        nets = self.nets
        after = self._unroll(nets.target_critic.torso, batch, batch.carries[0], skip=1)
        actor_after = None
        own = nets.actor.torso if nets.actor is not None else None
        if own is not None:
            torso = nets.target_actor.torso if nets.target_actor is not None else own
            actor_after = self._unroll(torso, batch, batch.carries[1], skip=1)
        return self.bootstrapped(batch, self.next_value(batch, after, actor_after))

    def bootstrapped(self, batch: Batch, next_value: Tensor) -> Tensor:
        """`[length, N, ...]` n-step targets that bootstrap from `next_value`, which holds a number
        or a sample of numbers for each successor, `[length + n - 1, N, ...]`."""
        rows, sample = slice(batch.before, None), batch.sample
        reward, terminated, truncated = (
            x[rows].view(*x[rows].shape, *[1] * (next_value.dim() - 2))
            for x in (self.nets.sized(sample.reward), sample.terminated, sample.truncated)
        )
        target = n_step_return(
            reward=reward,
            next_value=next_value,
            terminated=terminated,
            truncated=truncated,
            gamma=self.config.gamma,
            n=self.config.n_step,
        )
        return target[: batch.length]

    def estimate(self, value: Tensor) -> Tensor:
        """One number from the critics' output `[K, ...]`: the smallest."""
        return value.amin(0)

    def priority(self, batch: Batch, value: Tensor, target: Tensor) -> Tensor:
        """`[N]` priorities from the errors. A sequence gets 0.9 of the largest and 0.1 of the mean
        error (Kapturowski et al. 2019, R2D2) over the steps that count."""
        error = self.error(value, target)
        mean = error.mean(0)
        if batch.mask is not None:
            error = error.masked_fill(~batch.mask, 0.0)
            mean = error.sum(0) / batch.mask.sum(0).clamp(min=1)
        return 0.9 * error.amax(0) + 0.1 * mean

    @torch.no_grad()
    def outputs(self, obs: Obs, reset: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        """`[T, B, F]` the features of every torso."""
        previous = self.nets.previous(action, reward, reset)
        carries: Any = self.nets.initial_carry(reset.shape[1])
        pairs = zip(self.nets.torsos, carries, strict=True)
        return torch.cat([t.forward(obs, previous, c, reset)[0] for t, c in pairs], -1)

    @torch.no_grad()
    def expected(
        self, obs: Obs, carry: Carry, reset: Tensor, action: Tensor, reward: Tensor, chosen: Tensor
    ) -> Tensor:
        """`[1, B]` the smallest value that a critic gives to the chosen action."""
        carries: Any = carry
        previous = self.nets.previous(action, reward, reset)
        features, _ = self.nets.critic.torso.forward(obs, previous, carries[0], reset)
        critic = self.nets.critic
        return self.estimate(critic.pick(critic.forward(features, chosen), chosen))

    @classmethod
    def networks(
        cls, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Any
    ) -> OffPolicyNets:
        """Builds the networks that this algorithm trains.

        Raises:
            UsageError: the algorithm cannot learn such actions.
        """
        if not isinstance(action_space, cls.action_space):
            raise UsageError(
                f"{cls.__name__.removesuffix('Update').lower()} needs {cls.action_space.__name__} "
                f"actions, but the action space is {action_space}; {cls.others}"
            )
        return OffPolicyNets(
            observation_space, action_space, config, actor=cls.actor, critics=cls.count(config),
            target_actor=cls.target_actor, own_torso=config.memory_owner == "separate",
            dueling=config.dueling, quantiles=config.quantiles,
            steady=config.normaliser == "steady", sized_rewards=config.normalise_reward,
        )  # fmt: skip

    @classmethod
    def count(cls, config: Any) -> int:
        """The number of critics."""
        return cls.critics
