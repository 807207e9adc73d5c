"""The agent as people use it: learn, act, predict, save. `algorithms` has one for each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain._version import __version__
from retain.data.stream import Driver, as_tensors
from retain.envs.contract import Backend
from retain.envs.groups import make_groups
from retain.envs.make import EnvLike, env_name
from retain.errors import CheckpointError, UsageError
from retain.memory import memory_name
from retain.memory.registry import write_options
from retain.nn.encoders import encoder_name
from retain.nn.torso import NetworkConfig
from retain.train import checkpoint as store
from retain.train.allocator import keep_freed_memory
from retain.train.config import (
    RunConfig,
    check_names,
    field_names,
    parts_of,
    to_json,
    values_of,
)
from retain.train.defaults import Derived
from retain.train.presets import AUTO
from retain.train.relevance import Situation, check_relevant, irrelevant
from retain.train.spaces import space_to_json
from retain.train.start import Start
from retain.types import Carry, tree_leaves, tree_map, under_prefix, with_prefix


class Agent(ABC):
    """A policy, what trains it, and the environments it learns in.

    Args:
        env: a gymnasium id, `module:id`, or a callable that returns an environment.
        preset: settings to begin with: `auto` (what is known to work for this environment, or else
            what is derived from it), another name, `none` for the algorithm's defaults, or a TOML
            file's path.
        settings: any field of `RunConfig` or of the algorithm's config, over the preset.
    Raises:
        UsageError: an unknown id, field or value; the line names the nearest valid one.
    """

    algo: ClassVar[str]
    config_kind: ClassVar[type[NetworkConfig]]
    run_defaults: ClassVar[dict[str, Any]] = {}
    """What the algorithm changes in `RunConfig` before a preset does."""
    config: Any
    derived: tuple[Derived, ...] = ()
    """Settings that follow from the task, where no preset knows it."""
    policy: Any
    """The networks, a `Policy`."""
    update: Any
    """What trains them, with `state` and `restore`."""

    def __init__(self, env: EnvLike, *, preset: str = AUTO, **settings: Any) -> None:
        settings = named_parts(settings)
        kinds = RunConfig, self.config_kind
        check_names(settings, field_names(*kinds))
        start = Start(self.algo, kinds, self.run_defaults, env, preset, settings)

        def config(*spaces: gym.Space[Any]) -> Any:
            self.derived = start.derived(*spaces)
            return start.parts(*spaces)[1]

        self._setup(env, start.parts()[0], config)
        now = Situation(
            self.algo, env, (self.config, self.run_settings), self.observation_space,
            self.action_space, self.policy.receptive_field,
        )  # fmt: skip
        check_relevant(settings, now)
        if preset.endswith(".toml"):
            check_relevant(start.chosen, now, f"preset {preset}")

    @classmethod
    def useful(cls, settings: Mapping[str, Any], env: EnvLike | None = None) -> dict[str, Any]:
        """Those settings that would do something together: for a loop over memories, where one of
        them has no use for what another needs."""
        settings = named_parts(settings)
        check_names(settings, field_names(RunConfig, cls.config_kind))
        run, config = parts_of(cls.run_defaults | settings, RunConfig, cls.config_kind)
        idle = irrelevant(settings, Situation(cls.algo, env, (config, run)))
        return {name: value for name, value in settings.items() if name not in idle}

    @classmethod
    def exactly(cls, env: EnvLike, settings: Mapping[str, Any]) -> Self:
        """An agent with these settings: no preset, and no question whether each of them matters."""
        settings = named_parts(settings)
        check_names(settings, field_names(RunConfig, cls.config_kind))
        agent = cls.__new__(cls)
        agent._setup(env, *parts_of(cls.run_defaults | settings, RunConfig, cls.config_kind))
        return agent

    def _setup(
        self,
        env: EnvLike | None,
        run: RunConfig,
        config: Any,
        spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
    ) -> None:
        self.env, self.run_settings = env, run
        self._backends: list[Backend] | None = None
        self._collector: Driver | None = None
        if spaces is None:
            first = self.backends[0]
            spaces = (first.observation_space, first.action_space)
        self.observation_space, self.action_space = spaces
        self.config = config(*spaces) if callable(config) else config
        keep_freed_memory()
        self.device = torch.device(run.device)
        seeds = np.random.SeedSequence(run.seed).generate_state(3)
        self._seeds = [int(seed) for seed in seeds]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            self._build()
        self._act_generator = torch.Generator(self.device).manual_seed(self._seeds[1])
        self._pending: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self.progress: dict[str, Any] = {}

    @abstractmethod
    def _build(self) -> None:
        """Makes the policy and its update; torch's global generator is seeded."""

    @abstractmethod
    def _make_collector(self) -> Driver:
        """Makes what acts in the training environments."""

    @abstractmethod
    def iterate(self, progress: Callable[[], float]) -> dict[str, float]:
        """One turn of training: some steps, some updates; metrics by name, the same each time.

        Args:
            progress: share of the run that is over by now, in [0, 1].
        Raises:
            NonFiniteError: a loss or gradient was not finite.
        """

    def _scale(self) -> float:
        """How much sampled actions explore, for `Policy.act`."""
        return 1.0

    def _learner_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.update.state()  # type: ignore[no-any-return]

    def _restore_learner(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.update.restore(tensors, facts)

    def _save_large(self, folder: Path, shared: Path | None) -> dict[str, Any]:
        """Writes what is too large for every checkpoint, to `shared` if given; facts about it."""
        return {}

    def _restore_large(self, folder: Path, facts: dict[str, Any]) -> None:  # noqa: B027 (optional)
        """Remembers where `_save_large` wrote, for when it is needed."""

    def prune(self, run: Path) -> None:  # noqa: B027 (optional)
        """Removes what only checkpoints needed that a run folder no longer holds."""

    @property
    def name(self) -> str:
        """What a run folder of this agent is called."""
        env = env_name(self.env) if self.env is not None else "saved"
        memory = self.config.memory.rpartition(":")[2]
        return f"{env.replace('/', '-').replace(':', '-')}-{self.algo}-{memory}"

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting, as the constructor takes them."""
        return values_of(self.run_settings, self.config)

    @property
    def backends(self) -> list[Backend]:
        """The training environments, one backend for each group; made on first use."""
        if self._backends is None:
            if self.env is None:
                raise UsageError(
                    "this agent was saved with an environment given as a callable: "
                    "pass it again, load(path, env=...)"
                )
            options = self.run_settings.env_options()
            self._backends = make_groups(self.env, self.run_settings.num_envs, options)
        return self._backends

    @property
    def collector(self) -> Any:
        """Acts in the training environments; a loaded agent's episodes are played back here."""
        if self._collector is None:
            self._collector = self._make_collector()
            if self._pending is not None:
                differs = self._collector.restore(*self._pending)
                self._pending = None
                self.progress["not_deterministic"] = np.flatnonzero(differs).tolist()
        return self._collector

    @property
    def steps(self) -> int:
        """Environment steps learned from so far."""
        if self._collector is None and self._pending is not None:
            return int(self._pending[1]["steps"])
        return self._collector.steps if self._collector is not None else 0

    def learn(
        self, steps: int, *, out: str | Path | None = None, progress: bool = False
    ) -> "Agent":
        """Trains for `steps` environment steps more; may be called again.

        Args:
            steps: of all environments together; rounded up to whole segments.
            out: run folder for metrics, checkpoints and the learning curve; None writes nothing.
            progress: show a live view on the terminal.
        """
        from retain.train.trainer import train

        train(self, steps, run=Path(out) if out is not None else None, progress=progress)
        return self

    def initial_carry(self, batch_size: int = 1) -> Carry:
        """The carry before an episode's first observation; yours to keep and hand to `act`."""
        return (
            tree_map(lambda x: x.to(self.device), self.policy.initial_carry(batch_size)),
            torch.zeros(
                (batch_size, *self.policy.event_shape),
                dtype=self.policy.action_dtype,
                device=self.device,
            ),
        )

    def act(
        self,
        obs: Any,
        carry: Carry | None = None,
        reset: bool | NDArray[np.bool_] = False,
        *,
        deterministic: bool = False,
        reward: float | NDArray[Any] | None = None,
    ) -> tuple[Any, Carry]:
        """One step: the training forward with T = 1.

        Args:
            obs: one observation, or a batch `[B, ...]`, as the environment gives it.
            carry: what the last call returned; None starts an episode.
            reset: true, or `[B]` true, where obs is the first of its episode.
            deterministic: the most probable action instead of a sample.
            reward: of the step before; needed only by networks that read it.
        Returns:
            action(s) as the environment takes them, and the next carry.
        """
        rows, single = self._batched(obs)
        size = next(iter(rows.values() if isinstance(rows, dict) else [rows])).shape[0]
        if carry is None:
            carry, reset = self.initial_carry(size), True
        policy_carry, previous_action = carry[0], carry[1]
        if tree_leaves(carry)[-1].shape[0] != size:
            raise UsageError(
                f"the carry is for {tree_leaves(carry)[-1].shape[0]} environments, but obs holds "
                f"{size}: start with initial_carry({size})"
            )
        flags = torch.as_tensor(np.broadcast_to(np.asarray(reset, dtype=np.bool_), size).copy())
        previous_reward = None
        if reward is not None:
            given = np.broadcast_to(np.asarray(reward, dtype=np.float64), size)
            learned = self.run_settings.learned_reward(given).astype(np.float32)
            previous_reward = torch.from_numpy(learned).to(self.device).unsqueeze(0)
        elif self.config.reads_reward and not bool(flags.all()):
            raise UsageError("this agent reads the previous reward: pass act(..., reward=...)")
        elif self.config.reads_reward:
            previous_reward = torch.zeros((1, size), device=self.device)
        with torch.inference_mode():
            prepared = self.policy.prepare(
                tree_map(lambda x: x.unsqueeze(0), as_tensors(rows, self.device))
            )
            action, policy_carry = self.policy.act(
                prepared,
                policy_carry,
                flags.to(self.device).unsqueeze(0),
                previous_action.unsqueeze(0),  # type: ignore[union-attr]
                previous_reward,
                scale=0.0 if deterministic else self._scale(),
                generator=self._act_generator,
            )
            env_action = self.policy.coder.to_env(action)
        return (env_action[0] if single else env_action), (policy_carry, action)

    def _batched(self, obs: Any) -> tuple[Any, bool]:
        """Observations as `[B, ...]` arrays, and whether a single one was given."""
        space = self.observation_space
        if isinstance(space, gym.spaces.Dict):
            if isinstance(obs, tuple):
                obs = {str(index): value for index, value in enumerate(obs)}
            elif set(obs) != set(space.spaces):
                obs = {key: _dig(obs, key) for key in space.spaces}
            pairs = {key: self._leaf(obs[key], inner) for key, inner in space.spaces.items()}
            return {k: v for k, (v, _) in pairs.items()}, next(iter(pairs.values()))[1]
        return self._leaf(obs, space)

    def _leaf(self, obs: Any, space: gym.Space[Any]) -> tuple[NDArray[Any], bool]:
        array = np.ascontiguousarray(np.asarray(obs, dtype=space.dtype))
        shape = space.shape or ()
        if np.ndim(obs) == len(shape) and np.shape(obs) == shape:
            return array.reshape(1, *shape), True
        if array.shape[1:] == shape and array.ndim == len(shape) + 1:
            return array, False
        raise UsageError(
            f"observation of shape {np.shape(obs)} (expected {shape}, or a batch of these)"
        )

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, tuple[NDArray[Any], ...] | None]:
        """`act` with Stable-Baselines3's signature.

        Args:
            state: what the last call returned; None starts episodes.
            episode_start: `[B]` true where an episode begins; the state is cleared there.
        Returns:
            actions, and the next state as a tuple of arrays (None without memory).
        """
        rows, _ = self._batched(observation)
        size = next(iter(rows.values() if isinstance(rows, dict) else [rows])).shape[0]
        carry = self.initial_carry(size)
        starts: Any = state is None
        if state is not None:
            arrays = iter(state)
            carry = tree_map(lambda x: torch.from_numpy(next(arrays)).to(self.device), carry)
            starts = False if episode_start is None else np.asarray(episode_start, dtype=np.bool_)
        action, carry = self.act(observation, carry, starts, deterministic=deterministic)
        if not (self.policy.recurrent or self.config.reads_action):
            return action, None
        return action, tuple(leaf.cpu().numpy() for leaf in tree_leaves(carry))

    def evaluate(
        self,
        episodes: int = 20,
        *,
        deterministic: bool = True,
        seed: int | None = None,
        clear_every: int | None = None,
    ) -> Any:
        """Plays whole episodes in fresh environments; training is untouched.

        Args:
            seed: of the episodes; None derives one from the run's seed.
            clear_every: forget everything each so many steps, to see what memory is worth.

        Returns:
            `Evaluation` with return_mean, return_std, length_mean, episodes and all returns.
        """
        from retain.train.evaluate import evaluate

        return evaluate(
            self, episodes, deterministic=deterministic, seed=seed, clear_every=clear_every
        )

    def description(self) -> dict[str, Any]:
        """Everything that `load` needs to build this agent again, as JSON."""
        return {
            "retain": __version__,
            "algo": self.algo,
            "env": self.env if isinstance(self.env, str) else None,
            "env_name": env_name(self.env) if self.env is not None else None,
            "run": to_json(self.run_settings),
            self.algo: to_json(self.config),
            "derived": [to_json(derived) for derived in self.derived],
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
        }

    def save(self, path: str | Path, *, shared: Path | None = None, **progress: Any) -> Path:
        """Writes the agent to a folder, whole or not at all: parameters, statistics, optimizers,
        replay and the current episodes, so that `load(path).learn(...)` goes on.

        Args:
            shared: a folder for what several checkpoints share (a replay), next to which `path`
                stays; None keeps everything in one.
        """
        path = Path(path)
        update_tensors, update_facts = self._learner_state()
        training = with_prefix("update.", update_tensors)
        facts: dict[str, Any] = {"update": update_facts}
        if self._pending is not None or self._collector is not None:
            tensors, collector = self._pending or self.collector.state()
            training |= with_prefix("collector.", tensors)
            facts["collector"] = collector
        store.save_checkpoint(
            path,
            config=self.description(),
            model=self.policy.state_dict(),
            training=training,
            state=facts | {"progress": self.progress | progress},
            extra=lambda folder: self._save_large(folder, shared),
        )
        return path

    def restore(self, folder: Path) -> dict[str, Any]:
        """Takes back what `save` wrote; the progress saved with it."""
        try:
            self.policy.load_state_dict(store.load_tensors(folder, store.MODEL))
        except RuntimeError as error:
            raise CheckpointError(f"{folder} does not fit this configuration: {error}") from None
        training, state = store.load_tensors(folder, store.TRAINING), store.load_state(folder)
        self._restore_learner(under_prefix("update.", training), state["update"])
        self._restore_large(folder, state)
        self._collector = None
        if "collector" in state:
            self._pending = (under_prefix("collector.", training), state["collector"])
        self.progress = state["progress"]
        return self.progress


def _dig(obs: Any, key: str) -> Any:
    """The leaf of a nested observation that the flat `key` names."""
    for part in key.split("/"):
        obs = obs[part] if isinstance(obs, dict) else obs[int(part)]
    return obs


def named_parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every class of a memory or an encoder by the name a configuration keeps."""
    names = {"memory": memory_name, "encoder": encoder_name, "memory_options": write_options}
    return {k: names[k](v) if k in names else v for k, v in settings.items()}
