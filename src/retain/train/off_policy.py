"""Agents that learn from a replay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
from torch import Tensor

from retain.algos.off_policy import OffPolicyUpdate
from retain.algos.off_policy_config import OffPolicyConfig
from retain.algos.pieces import check_carries
from retain.data.experience import Experience
from retain.data.replay import Replay, check_capacity
from retain.data.shards import Shards, shard_seed
from retain.data.stream import observation_rows
from retain.errors import UsageError
from retain.nn.q_networks import OffPolicyNets
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.distributed import check_minibatch
from retain.train.files import make_folder
from retain.train.lock import take
from retain.train.replay_files import FOLDER, Rows, add_rows, load_rows, prune_rows, rows_of
from retain.train.validation import fitting
from retain.types import tree_leaves, under_prefix, with_prefix


class OffPolicyAgent(Agent):
    """An agent that fills a replay and learns from it; subclasses choose the algorithm."""

    run_defaults: ClassVar[dict[str, Any]] = {"num_envs": 1}
    config: OffPolicyConfig
    policy: OffPolicyNets
    update_kind: ClassVar[type[OffPolicyUpdate]]
    """The algorithm."""
    discrete_kind: ClassVar[type[OffPolicyUpdate] | None] = None
    """The algorithm's class for Discrete actions, if that is another one."""

    def _build(self) -> None:
        config = self.config
        if self.run_settings.env_groups != 1:
            raise UsageError(
                f"env_groups is {self.run_settings.env_groups}, but {self.algo} learns between "
                "steps (expected 1)"
            )
        kind = self.update_kind
        if self.discrete_kind is not None and isinstance(self.action_space, gym.spaces.Discrete):
            kind = self.discrete_kind
        nets = kind.networks(self.observation_space, self.action_space, config)
        self.policy = nets.to(self.device)
        self.update: OffPolicyUpdate = kind(config, self.policy, seed=self._seeds[0])
        pieces = self.update.pieces
        check_capacity(
            config.buffer_size,
            num_envs=self.run_settings.num_envs,
            span=pieces.span,
            stride=pieces.stride,
        )
        if pieces.stored:
            row = observation_rows(self.observation_space, (1,))
            carry = sum(x.nbytes for x in tree_leaves(self.policy.initial_carry(1)))
            check_carries(
                carries=config.buffer_size // pieces.stride * carry,
                observations=config.buffer_size * sum(x.nbytes for x in tree_leaves(row)),
                sequence_length=config.sequence_length,
            )
        if self.layout.several:
            self._divide(pieces.length)
        self._replays: list[Replay] | None = None
        self._replay_state: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._replay_source: tuple[Path, list[dict[str, Any]]] | None = None
        self._files: list[dict[str, Any]] = []
        self._rows: list[Rows] | None = None
        """The rows of all ranks that are about to be written."""

    def _divide(self, length: int) -> None:
        """Cuts the update into shards.

        Raises:
            UsageError: a minibatch cannot be cut into whole sequences for each.
        """
        check_minibatch(self.config.batch_size, length, self.layout.count)
        if self.config.buffer_folder is not None:
            raise UsageError(
                f"buffer_folder is {self.config.buffer_folder} and shards is {self.layout.count}, "
                "but only one replay can be kept in files (expected shards 1)"
            )
        self.update.divide(Shards(self.layout, self.ranks), self._seeds[0])

    @property
    def replay(self) -> Replay:
        """The replay of this process's first shard; see `replays`."""
        return self.replays[0]

    @property
    def replays(self) -> list[Replay]:
        """The replay of each of this process's shards, made on first use; a loaded agent's replays
        are read from their files then."""
        if self._replays is None:
            # Its own only once they are whole: what fails to load must not be taken for empty.
            folder = self.config.buffer_folder
            if folder is not None:
                make_folder(Path(folder), "buffer_folder")
                self._buffer_lock = take(Path(folder))  # until this agent is gone
            replays = [self._new_replay(shard) for shard in self.layout.own]
            if self._replay_source is not None and self._replay_state is not None:
                load_rows(replays, self._first_env(self.layout.own.start), *self._replay_source)
                tensors, facts = self._replay_state
                with fitting("the saved state of the replay"):
                    for shard, replay in zip(self.layout.own, replays, strict=True):
                        prefix = self._of_shard(shard)
                        own = under_prefix(f"{prefix}.", tensors) if prefix else tensors
                        replay.restore(own, facts[prefix] if prefix else facts)
            self._replays = self.update.replays = replays
        return self._replays

    def _new_replay(self, shard: int) -> Replay:
        config, pieces, count = self.config, self.update.pieces, self.layout.count
        B = self.run_settings.num_envs // count
        return Replay(
            self.observation_space,
            self.policy.event_shape,
            self.policy.action_dtype,
            num_envs=B,
            capacity=config.buffer_size // count,
            carry=self.policy.initial_carry(B) if pieces.stored else None,
            stride=pieces.stride,
            span=pieces.span,
            priority_exponent=config.priority_exponent if config.prioritized else None,
            folder=Path(config.buffer_folder) if config.buffer_folder is not None else None,
            seed=shard_seed(self._seeds[2], shard),
        )

    def _first_env(self, shard: int) -> int:
        """The run's number of a shard's first environment."""
        return shard * (self.run_settings.num_envs // self.layout.count)

    def _of_shard(self, shard: int) -> str:
        """The name of a shard's entry in a saved state; empty for the only shard."""
        return str(shard) if self.layout.several else ""

    @property
    def collector(self) -> Experience:
        """The driver that acts in the training environments; see `Agent.collector`."""
        found = super().collector
        assert isinstance(found, Experience)
        return found

    def _make_collector(self) -> Experience:
        return Experience(
            self.backends, self.policy, self.replays,
            seed=self.run_settings.seed, options=self.run_settings, device=self.device,
            shards=self.layout,
        )  # fmt: skip

    def iterate(
        self, progress: Callable[[], float], over: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """Takes `num_steps` steps in every environment and the updates due; see `Agent.iterate`."""
        return self.update.turn(self.collector, progress, over)

    def exploration(self) -> float:
        """The exploration at the run's end."""
        return self.update.scale(1.0)

    def learner_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `Agent.learner_state`; includes the replay's position."""
        tensors, facts = self.update.state()
        if self._replays is not None:
            self._replay_state = {}, {}
            for shard, replay in zip(self.layout.own, self._replays, strict=True):
                rows, own = replay.state()
                prefix = self._of_shard(shard)
                self._replay_state[0].update(with_prefix(f"{prefix}.", rows) if prefix else rows)
                self._replay_state[1].update({prefix: own} if prefix else own)
        if self._replay_state is not None:
            tensors |= with_prefix("replay.", self._replay_state[0])
            facts |= {"replay": self._replay_state[1]}
        return tensors, facts

    def _restore_learner(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        inside = under_prefix("replay.", tensors)
        self._replay_state = (inside, facts["replay"]) if "replay" in facts else None
        self.update.restore(tensors, facts)

    def _gather_large(self, shared: Path | None) -> None:
        """Brings the rows that the files lack to rank 0."""
        self._rows = None
        if self._replays is None and self._replay_state is None:
            return
        entries = [] if shared is None else self._files
        first = self._first_env(self.layout.own.start)
        own = [rows_of(self.replays, first, entries)]
        self._rows = [rows for each in self.ranks.objects(own) for rows in each]

    def _save_large(self, folder: Path, shared: Path | None) -> dict[str, Any]:
        if self._rows is None:
            return {}
        if shared is None:
            entries = add_rows(self._rows, self.replay.rows, folder / FOLDER, [])
            return {"replay": {"shared": False, "files": entries}}
        self._files = add_rows(self._rows, self.replay.rows, shared / FOLDER, self._files)
        return {"replay": {"shared": True, "files": self._files}}

    def prune(self, run: Path) -> None:
        """Removes the files of a run's replay that no checkpoint needs any more."""
        states = [store.load_state(path) for path in store.checkpoints(run)]
        files = [file for state in states for file in state.get("replay", {}).get("files", [])]
        prune_rows(run / FOLDER, {file["number"] for file in files})

    def _restore_large(self, folder: Path, facts: dict[str, Any]) -> None:
        if "replay" not in facts:
            return
        shared, entries = facts["replay"]["shared"], facts["replay"]["files"]
        self._files = entries if shared else []
        # A shared replay lies beside the folder of the checkpoints.
        home = folder.parent.parent if shared else folder
        self._replay_source = (home / FOLDER, entries)
