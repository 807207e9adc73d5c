"""What every algorithm that learns from a replay shares: pieces of the timeline, features under
memory, n-step targets, the two optimizers, the targets' slow copies.

*Who owns the memory.* The critic's loss trains the critic's torso (encoder and memory). With
`memory_owner="critic"` the actor reads those features without gradient; with "separate" it has a
torso of its own, trained by its own loss. Either way each parameter is stepped once an update, and
the target networks hold a slow copy of every torso that their values rest on.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import gymnasium as gym
import torch
from torch import Tensor

from retain.algos.optim import Adam, SafeStep, check_ownership
from retain.algos.pieces import pieces_of
from retain.data.replay import Replay, Sample
from retain.errors import NonFiniteError, UsageError, check_range
from retain.nn.q_networks import Actor, OffPolicyNets
from retain.nn.torso import NetworkConfig, Torso
from retain.ops import n_step_return, q_loss
from retain.settings import setting
from retain.types import Carry, Obs, tree_map, under_prefix, with_prefix


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(NetworkConfig):
    """Everything the off-policy algorithms read together."""

    hidden: tuple[int, ...] = (256, 256)
    """MLP widths after the memory, for the actor and for each critic."""
    activation: Literal["tanh", "relu", "elu", "silu"] = "relu"
    """Activation of the MLPs."""
    shortcut: bool = setting(True, needs="memory")
    """With memory: the current features also go past it."""
    previous_action: bool = setting(True, needs="memory")
    """With memory: it also reads the last action (zero at an episode's start)."""
    previous_reward: bool = setting(True, needs="memory")
    """With memory: it also reads the last reward (zero at an episode's start)."""
    memory_owner: Literal["critic", "separate"] = "critic"
    """critic: its loss trains the one memory; separate: actor and critic have one each."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    actor_learning_rate: float | None = setting(None, needs="has_actor")
    """The actor's own; None takes learning_rate."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    max_grad_norm: float | None = None
    """Largest global gradient norm of each optimizer."""
    batch_size: int = 256
    """Steps in an update. Where pieces are sequences, a multiple of the sequence length."""
    sequence_length: int = setting(32, needs="sequences")
    """With a memory: steps that a piece of the replay trains on (a window's pieces are single)."""
    burn_in: int = setting(0, needs="unbounded")
    """With an unbounded memory: steps in front of those that only bring its stored carry up to
    date."""
    huber: float | None = None
    """Huber threshold of the critics' errors instead of the plain square."""
    n_step: int = 1
    """Rewards in a target before it bootstraps."""
    gamma: float = 0.99
    """Discount of a step."""
    tau: float = 0.005
    """Share of the networks that flows into their targets' copies at each update."""
    update_ratio: float = 1.0
    """Updates per environment step."""
    learning_starts: int = 1000
    """Steps of uniform random actions before the first update."""
    buffer_size: int = 1_000_000
    """Steps that the replay holds, of all environments together."""
    buffer_folder: str | None = None
    """Keep the replayed observations in memory-mapped files there, for more than RAM holds."""
    prioritized: bool = False
    """Sample by the size of the last error instead of uniformly."""
    priority_exponent: float = setting(0.6, needs="prioritized")
    """alpha: 0 is uniform, 1 is in proportion to the error."""
    priority_beta: float = setting(0.4, needs="prioritized")
    """Importance exponent at first; it rises to 1 over the run."""
    num_steps: int = 200
    """Steps of each environment between two rows of the metrics."""

    def __post_init__(self) -> None:
        """Refuses values that cannot mean anything."""
        super().__post_init__()
        check_range(
            self, "batch_size", "sequence_length", "n_step", "buffer_size", "num_steps", low=1
        )
        check_range(self, "gamma", "tau", "priority_exponent", "priority_beta", low=0, high=1)
        check_range(
            self, "learning_rate", "actor_learning_rate", "update_ratio", "burn_in",
            "learning_starts", low=0,
        )  # fmt: skip
        check_range(self, "max_grad_norm", "huber", "adam_eps", low=0, above=True)

    @property
    def dueling(self) -> bool:
        """Whether the critic is a value and advantages around it; only DQN's may be."""
        return False

    @property
    def has_actor(self) -> bool:
        """Whether there is an actor beside the critic."""
        return True

    @property
    def reads_action(self) -> bool:
        """Without a memory, one step is all there is."""
        return self.previous_action and self.remembers

    @property
    def reads_reward(self) -> bool:
        """Without a memory, one step is all there is."""
        return self.previous_reward and self.remembers


@dataclass
class Batch:
    """A sample with its observations prepared, and the features computed from it so far.

    Rows `[0, before)` are history, `[before, before + length)` the losses', the rest successors.
    """

    sample: Sample
    obs: Obs
    previous: list[Tensor]
    carries: tuple[Carry, ...]
    """Of each torso, before the first row."""
    before: int
    length: int
    alone: bool
    """Whether a piece is one step, which was drawn for what was done there."""
    features: Tensor = field(init=False)
    """`[length, N, F]` the critic's own, with gradient."""
    features_after: Tensor = field(init=False)
    """`[length + n - 1, N, F]` the critic's own at the successors, without gradient."""

    @property
    def mask(self) -> Tensor | None:
        """`[length, N]` steps that count; None where all do."""
        if self.alone:
            return None
        return self.sample.acted[self.before : self.before + self.length]

    @property
    def action(self) -> Tensor:
        """`[length, N, ...]`"""
        return self.sample.action[self.before : self.before + self.length]

    def part(self, first: int, last: int | None = None) -> tuple[Obs, list[Tensor], Tensor]:
        """Observations, previous inputs and resets of rows `[first, last)`."""
        rows = slice(first, last)
        previous = [x[rows] for x in self.previous]
        return tree_map(lambda x: x[rows], self.obs), previous, self.sample.reset[rows]


class OffPolicyUpdate(ABC):
    """Turns pieces of a replay into gradient steps. Subclasses say what the losses are.

    Args:
        seed: of what the losses sample.
    """

    METRICS: ClassVar[tuple[str, ...]] = (
        "critic_loss", "q_mean", "grad_norm", "actor_loss", "masked_fraction",
    )  # fmt: skip
    """Names that `update` returns, some not at every call."""
    action_space: ClassVar[type[gym.Space[Any]]] = gym.spaces.Box
    """The kind of actions it can learn."""
    others: ClassVar[str]
    """For other actions: what does learn them."""
    actor: ClassVar[type[Actor] | None]
    """The kind of policy; None acts greedily on the critic's values."""
    critics: ClassVar[int]
    target_actor: ClassVar[bool] = False
    """Whether the targets include a copy of the actor."""
    reads_after: bool = False
    """Whether a target reads the online critic's features at the successors."""
    config: Any

    replay: Replay
    """What it samples from; its owner sets it before the first update."""

    def __init__(self, config: Any, nets: OffPolicyNets, *, seed: int) -> None:
        self.config, self.nets = config, nets
        self.pieces = pieces_of(config, nets.receptive_field, unrolls=nets.unrolls)
        self.generator = torch.Generator(next(nets.parameters()).device).manual_seed(seed)
        self.optimizers: dict[str, Adam] = {}
        self.steps: dict[str, SafeStep] = {}
        actor_rate = config.actor_learning_rate
        self._own("critic", nets.critic, config.learning_rate)
        if nets.actor is not None:
            rate = config.learning_rate if actor_rate is None else actor_rate
            self._own("actor", nets.actor, rate)
        trained = torch.nn.ModuleList(m for m in (nets.critic, nets.actor) if m is not None)
        check_ownership(trained, *self.optimizers.values())
        self.gradient_steps = 0
        self._ready = False
        self._pairs = self._target_pairs()

    @classmethod
    def networks(
        cls, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Any
    ) -> OffPolicyNets:
        """The networks this algorithm trains.

        Raises:
            UsageError: it cannot learn such actions.
        """
        if not isinstance(action_space, cls.action_space):
            raise UsageError(
                f"{cls.__name__.removesuffix('Update').lower()} needs {cls.action_space.__name__} "
                f"actions, but the action space is {action_space}; {cls.others}"
            )
        return OffPolicyNets(
            observation_space, action_space, config, actor=cls.actor, critics=cls.critics,
            target_actor=cls.target_actor, own_torso=config.memory_owner == "separate",
            dueling=config.dueling,
        )  # fmt: skip

    @abstractmethod
    def next_value(self, batch: Batch, after: Tensor, actor_after: Tensor | None) -> Tensor:
        """The target value of each successor, `[length + n - 1, N]`, without gradient.

        Args:
            after: `[length + n - 1, N, F]` the target critic's features.
            actor_after: what the policy of the target reads; None where `after` is that too.
        """

    @abstractmethod
    def scale(self, progress: float) -> float:
        """How much acting explores at `progress` in [0, 1] of the run."""

    def actor_loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor's loss and metrics.

        Args:
            features: `[length, N, F]` what the actor reads, with the gradient that belongs to it.
        """
        raise NotImplementedError

    def actor_due(self) -> bool:
        """Whether this update steps the actor."""
        return self.nets.actor is not None

    def after_update(self) -> dict[str, Tensor]:
        """What else an update changes; metrics of it."""
        return {}

    def predicted(self, batch: Batch) -> Tensor:
        """`[K, length, N]` values of the actions that were done."""
        return self.nets.critic.forward(batch.features, batch.action)

    def _own(self, name: str, module: torch.nn.Module, rate: float) -> None:
        self.optimizers[name] = Adam(module.parameters(), lr=rate, eps=self.config.adam_eps)
        self.steps[name] = SafeStep(module, self.optimizers[name], self.config.max_grad_norm)

    def _target_pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        online, target = list(self.nets.critic.parameters()), []
        target += list(self.nets.target_critic.parameters())
        if self.nets.target_actor is not None:
            assert self.nets.actor is not None
            online += list(self.nets.actor.parameters())
            target += list(self.nets.target_actor.parameters())
        return [p.detach() for p in online], target

    def ready(self) -> bool:
        """Whether the replay holds a piece to learn from; once it does, it always will."""
        if not self._ready:
            self._ready = self._can_sample()
        return self._ready

    def _can_sample(self) -> bool:
        pieces = self.pieces
        if pieces.stored:
            return self.replay.can_sample(pieces.span)
        return self.replay.can_sample(pieces.rows, pieces.history)

    def update(self, progress: float) -> dict[str, Tensor]:
        """One gradient step of each part that is due.

        Args:
            progress: share of the run that is over, in [0, 1].
        Returns:
            Scalars by name (docs/metrics.md).
        Raises:
            NonFiniteError: a loss or gradient was not finite; that optimizer did not step, and
                the sample travels on the error as `batch`.
        """
        config = self.config
        batch = self._batch(progress)
        target = self._target(batch)
        value = self.predicted(batch)
        weight = batch.sample.weight
        loss = q_loss(
            value=value, target=target, weight=weight, mask=batch.mask, huber=config.huber
        )
        metrics = {"critic_loss": loss, "q_mean": value.detach().mean()}
        if batch.mask is not None:
            metrics["masked_fraction"] = 1.0 - batch.mask.float().mean()
        try:
            norm = self.steps["critic"](loss, {"critic_loss": loss})
            metrics["grad_norm"] = torch.tensor(norm)
            if weight is not None:
                self._reprioritise(batch, value.detach(), target)
            self.gradient_steps += 1
            if self.actor_due():
                actor_loss, terms = self.actor_loss(batch, self._actor_features(batch))
                self.steps["actor"](actor_loss, {"actor_loss": actor_loss})
                metrics |= {"actor_loss": actor_loss, **terms}
            metrics |= self.after_update()
        except NonFiniteError as error:
            sample = batch.sample
            error.batch = {"action": sample.action, "reward": sample.reward, "target": target}
            raise
        online, slow = self._pairs
        with torch.no_grad():
            torch._foreach_lerp_(slow, online, config.tau)
        return {name: value.detach() for name, value in metrics.items()}

    def _batch(self, progress: float) -> Batch:
        config, pieces = self.config, self.pieces
        length, before = pieces.length, pieces.history
        beta = config.priority_beta + (1 - config.priority_beta) * progress
        # A piece starts where its carry is stored, or at the step that a window looks back from.
        inside, outside = (before, 0) if pieces.stored else (0, before)
        sample = self.replay.sample(
            config.batch_size // length, pieces.rows + inside, before=outside, beta=beta
        ).to(self.generator.device)
        previous = self.nets.previous(sample.previous_action, sample.previous_reward, sample.reset)
        carries: Any = sample.carry
        if carries is None:
            carries = self.nets.initial_carry(sample.reset.shape[1])
        obs = self.nets.prepare(sample.obs)
        alone = length == 1 and not pieces.stored
        batch = Batch(sample, obs, previous, carries, before, length, alone)
        rows = length + config.n_step * self.reads_after
        features = self._unroll(self.nets.critic.torso, batch, carries[0], rows)
        batch.features = features[:length]
        if self.reads_after:
            batch.features_after = features[1:].detach()
        return batch

    def _actor_features(self, batch: Batch) -> Tensor:
        """`[length, N, F]` what the actor reads, with the gradient that belongs to it."""
        torsos = self.nets.torsos
        if len(torsos) == 1:
            return batch.features.detach()
        return self._unroll(torsos[1], batch, batch.carries[1], batch.length)

    def _unroll(
        self, torso: Torso, batch: Batch, carry: Carry, rows: int | None = None, skip: int = 0
    ) -> Tensor:
        """Features from row `before + skip` on, `rows` of them or all to the end."""
        first = batch.before + skip
        if first and not torso.stateless:
            obs, previous, reset = batch.part(0, first)
            # History only brings a stored carry up to date: no gradient is due there. A window's
            # history *is* the sample, and gets its gradient.
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.pieces.stored):
                carry = torso.absorb(obs, previous, carry, reset)
        last = None if rows is None else first + rows
        obs, previous, reset = batch.part(first, last)
        return torso.forward(obs, previous, carry, reset)[0]

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        """`[length, N]` n-step targets."""
        nets, sample = self.nets, batch.sample
        after = self._unroll(nets.target_critic.torso, batch, batch.carries[0], skip=1)
        actor_after = None
        own = nets.actor.torso if nets.actor is not None else None
        if own is not None:
            torso = nets.target_actor.torso if nets.target_actor is not None else own
            actor_after = self._unroll(torso, batch, batch.carries[1], skip=1)
        rows = slice(batch.before, None)
        target = n_step_return(
            reward=sample.reward[rows],
            next_value=self.next_value(batch, after, actor_after),
            terminated=sample.terminated[rows],
            truncated=sample.truncated[rows],
            gamma=self.config.gamma,
            n=self.config.n_step,
        )
        return target[: batch.length]

    def _reprioritise(self, batch: Batch, value: Tensor, target: Tensor) -> None:
        """Priorities from the error; of a sequence, 0.9 of the largest and 0.1 of the mean
        (Kapturowski et al. 2019, R2D2)."""
        error = (value - target).abs().mean(0)
        if batch.mask is not None:
            error = error.masked_fill(~batch.mask, 0.0)
        mixed = 0.9 * error.amax(0) + 0.1 * error.mean(0)
        self.replay.set_priorities(batch.sample.slot, mixed.cpu().numpy())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Optimizers and generator: tensors, and JSON for the rest."""
        tensors = {"generator": self.generator.get_state()}
        for name, optimizer in self.optimizers.items():
            tensors |= with_prefix(f"{name}.", optimizer.tensors())
        return tensors, {"gradient_steps": self.gradient_steps}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.generator.set_state(tensors["generator"])
        for name, optimizer in self.optimizers.items():
            optimizer.restore(under_prefix(f"{name}.", tensors))
        self.gradient_steps = facts["gradient_steps"]
