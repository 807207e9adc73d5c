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
from retain.data.stream import observation_rows
from retain.errors import UsageError
from retain.nn.q_networks import OffPolicyNets
from retain.train import checkpoint as store
from retain.train.agent import Agent
from retain.train.files import make_folder
from retain.train.lock import take
from retain.train.replay_files import FOLDER, add_rows, load_rows, prune_rows
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
        self._replay: Replay | None = None
        self._replay_state: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._replay_source: tuple[Path, list[dict[str, Any]]] | None = None
        self._files: list[dict[str, Any]] = []

    @property
    def replay(self) -> Replay:
        """The replay, made on first use; a loaded agent's replay is read from its files then."""
        if self._replay is None:
            # Its own only once it is whole: what fails to load must not be taken for empty.
            config, pieces = self.config, self.update.pieces
            B = self.run_settings.num_envs
            carry = self.policy.initial_carry(B) if pieces.stored else None
            folder = Path(config.buffer_folder) if config.buffer_folder is not None else None
            if folder is not None:
                make_folder(folder, "buffer_folder")
                self._buffer_lock = take(folder)  # until this agent is gone
            replay = Replay(
                self.observation_space,
                self.policy.event_shape,
                self.policy.action_dtype,
                num_envs=self.run_settings.num_envs,
                capacity=config.buffer_size,
                carry=carry,
                stride=pieces.stride,
                span=pieces.span,
                priority_exponent=config.priority_exponent if config.prioritized else None,
                folder=folder,
                seed=self._seeds[2],
            )
            if self._replay_source is not None and self._replay_state is not None:
                load_rows(replay, *self._replay_source)
                with fitting("the saved state of the replay"):
                    replay.restore(*self._replay_state)
            self._replay = self.update.replay = replay
        return self._replay

    @property
    def collector(self) -> Experience:
        """The driver that acts in the training environments; see `Agent.collector`."""
        found = super().collector
        assert isinstance(found, Experience)
        return found

    def _make_collector(self) -> Experience:
        return Experience(
            self.backends[0], self.policy, self.replay,
            seed=self.run_settings.seed, options=self.run_settings, device=self.device,
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
        if self._replay is not None:
            self._replay_state = self._replay.state()
        if self._replay_state is not None:
            rows, replay = self._replay_state
            tensors |= with_prefix("replay.", rows)
            facts |= {"replay": replay}
        return tensors, facts

    def _restore_learner(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        inside = under_prefix("replay.", tensors)
        self._replay_state = (inside, facts["replay"]) if "replay" in facts else None
        self.update.restore(tensors, facts)

    def _save_large(self, folder: Path, shared: Path | None) -> dict[str, Any]:
        if self._replay is None and self._replay_state is None:
            return {}
        if shared is None:
            entries = add_rows(self.replay, folder / FOLDER, [])
            return {"replay": {"shared": False, "files": entries}}
        self._files = add_rows(self.replay, shared / FOLDER, self._files)
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
