"""The agent that people use: learn, act, predict, save. `algorithms` has one class for each
algorithm."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Never, Self

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from retain._version import __version__
from retain.algos.contract import Update
from retain.algos.schedules import schedule_name
from retain.envs.given import EnvLike, env_name, given
from retain.memory import memory_name
from retain.memory.registry import write_options
from retain.nn.encoders import encoder_name
from retain.nn.torso import NetworkConfig
from retain.train import checkpoint as store
from retain.train.allocator import keep_freed_memory
from retain.train.bounds import check_device, check_memory, check_sizes
from retain.train.callbacks.registry import CallbackLike
from retain.train.changes import guard, refuse_assignment
from retain.train.config import (
    RunConfig,
    check_names,
    field_names,
    parts_of,
    to_json,
    values_of,
)
from retain.train.contract import Progress
from retain.train.defaults import Derived
from retain.train.distributed import as_many_shards, own_device, put_together
from retain.train.evaluate import Evaluation, evaluate
from retain.train.inhabiting import Inhabiting
from retain.train.misuse import check_first, explained
from retain.train.presets import AUTO
from retain.train.relevance import Situation, check_relevant, irrelevant
from retain.train.signature import describe
from retain.train.spaces import space_to_json
from retain.train.start import Start
from retain.train.threads import cpu_threads
from retain.train.trainer import train
from retain.train.validation import fitting
from retain.types import under_prefix, with_prefix


class Agent(Inhabiting):
    """A policy, the update that trains it, and the environments that it learns in.

    Args:
        env: a gymnasium id, `module:id`, a callable that returns an environment, a gymnasium.Env
            (copied if gymnasium can make it again, otherwise used as the only environment), a
            gymnasium.vector.VectorEnv, or a `retain.Backend`.
        preset: settings to start from: `auto` (known to work for this environment, or else derived
            from it), another name, `none` for the algorithm's defaults, or a TOML file's path.
        settings: any field of `RunConfig` or of the algorithm's config; they override the preset.
    Raises:
        UsageError: an unknown id, field or value; the line names the nearest valid one.
    """

    algo: ClassVar[str]
    config_kind: ClassVar[type[NetworkConfig]]
    run_defaults: ClassVar[dict[str, Any]] = {}
    """Changes that the algorithm makes to `RunConfig` before a preset applies."""
    _settled: ClassVar[set[str]] = set()
    """Names that cannot be assigned: the configuration, and settings written as attributes."""
    update: Update[Never]
    """The update that trains the policy; each kind of agent has its own collector."""
    derived: tuple[Derived, ...] = ()
    """Settings derived from the task, if no preset knows the task."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if hasattr(cls, "config_kind"):
            describe(cls)
            guard(cls.config_kind)
            cls._settled = {"config", *field_names(cls.config_kind, RunConfig)} - {"device"}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._settled and "config" in vars(self):
            refuse_assignment(name)
        super().__setattr__(name, value)

    def __init__(self, env: EnvLike, *surplus: object, preset: str = AUTO, **settings: Any) -> None:
        check_first(type(self).__name__, env, surplus)
        settings = as_many_shards(named(settings))
        kinds = RunConfig, self.config_kind
        check_names(settings, field_names(*kinds))
        env, decided = given(env, settings)
        start = Start(self.algo, kinds, self.run_defaults, env, preset, decided | settings)

        def config(*spaces: gym.Space[Any]) -> NetworkConfig:
            self.derived = start.derived(*spaces)
            return start.config(*spaces)

        self._setup(env, start.run(), config)
        self.check_relevant(settings)
        if preset.endswith(".toml"):
            self.check_relevant(start.chosen, f"preset {preset}")

    @classmethod
    def useful(cls, settings: Mapping[str, Any], env: EnvLike | None = None) -> dict[str, Any]:
        """The settings that take effect together. A loop over memories uses this, since one memory
        may have no use for a setting that another needs."""
        settings = named(settings)
        check_names(settings, field_names(RunConfig, cls.config_kind))
        run, config = parts_of(cls.run_defaults | settings, RunConfig, cls.config_kind)
        idle = irrelevant(settings, Situation(cls.algo, env, (config, run)))
        return {name: value for name, value in settings.items() if name not in idle}

    @classmethod
    def exactly(cls, env: EnvLike, settings: Mapping[str, Any]) -> Self:
        """An agent with exactly these settings: no preset, and no check that each setting
        matters."""
        settings = named(settings)
        check_names(settings, field_names(RunConfig, cls.config_kind))
        env, decided = given(env, settings)
        values = cls.run_defaults | decided | settings
        return cls.of(env, *parts_of(values, RunConfig, cls.config_kind))

    @classmethod
    def of(
        cls,
        env: EnvLike | None,
        run: RunConfig,
        config: NetworkConfig | Callable[..., NetworkConfig],
        spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
    ) -> Self:
        """An agent with these configurations.

        Args:
            env: the environment; None for an agent that only acts.
            spaces: observation and action space; None makes the environments to find out theirs.
        """
        agent = cls.__new__(cls)
        agent._setup(env, run, config, spaces)
        return agent

    def check_relevant(self, names: Iterable[str], source: str = "") -> None:
        """Refuses the first of these settings that would do nothing here; see `relevance`."""
        now = Situation(
            self.algo, self.env, (self.config, self.run_settings), self.observation_space,
            self.action_space, self.policy.receptive_field,
        )  # fmt: skip
        check_relevant(names, now, source)

    def _setup(
        self,
        env: EnvLike | None,
        run: RunConfig,
        config: NetworkConfig | Callable[..., NetworkConfig],
        spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
    ) -> None:
        self._move_in(env, run)
        self.device = check_device(own_device(run.device))
        if spaces is None:
            first = self.backends[0]
            spaces = (first.observation_space, first.action_space)
        self.observation_space, self.action_space = spaces
        self.config = config(*spaces) if callable(config) else config
        check_sizes(*spaces)
        check_memory(*spaces, run, self.config)
        keep_freed_memory()
        seeds = np.random.SeedSequence(run.seed).generate_state(3)
        self._seeds = [int(seed) for seed in seeds]
        # Initial weights are computed with sums, whose order depends on the number of threads.
        with torch.random.fork_rng(devices=[]), cpu_threads(run.threads):
            torch.manual_seed(run.seed)
            self._build()
        self.act_generator = torch.Generator(self.device).manual_seed(self._seeds[1])
        self.progress: Progress = {}

    @abstractmethod
    def _build(self) -> None:
        """Makes the policy and its update, after seeding torch's global generator."""

    @abstractmethod
    def iterate(
        self, progress: Callable[[], float], over: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """One turn of training: some steps, some updates. Returns metrics with the same names each
        time.

        Args:
            progress: gives the schedules' current position, in [0, 1].
            over: says whether the run has taken all its steps.
        Raises:
            NonFiniteError: a loss or gradient was not finite.
        """

    def exploration(self) -> float:
        """How much sampled actions explore, in the sense of `Policy.act`."""
        return 1.0

    def learner_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The next update's inputs besides the policy: tensors, and JSON for the rest."""
        return self.update.state()

    def _restore_learner(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.update.restore(tensors, facts)

    def _gather_large(self, shared: Path | None) -> None:
        """Brings what `_save_large` writes to rank 0."""

    def _save_large(self, folder: Path, shared: Path | None) -> dict[str, Any]:
        """Writes data too large for every checkpoint, to `shared` if given; returns facts about
        it."""
        return {}

    def _restore_large(self, folder: Path, facts: dict[str, Any]) -> None:
        """Remembers where `_save_large` wrote, to read it when needed."""

    def explain(self, metric: str) -> str:
        """More about a metric that is out of its range; empty if there is no more to say."""
        return ""

    def prune(self, run: Path) -> None:
        """Removes files that only belonged to checkpoints that a run folder no longer holds."""

    @property
    def name(self) -> str:
        """The name of a run folder of this agent."""
        env = env_name(self.env) if self.env is not None else "saved"
        return run_name(env, self.algo, self.config.memory)

    def __repr__(self) -> str:
        env = env_name(self.env) if self.env is not None else "an environment that was an object"
        count = sum(parameter.numel() for parameter in self.policy.parameters())
        memory = self.config.memory
        return (
            f"<{type(self).__name__} on {env}: "
            f"{'no memory' if memory == 'none' else f'memory {memory}'}, {count:,} parameters, "
            f"{self.steps:,} steps learned, {self.device}>"
        )

    @property
    def compiles(self) -> bool:
        """See `Learner.compiles`."""
        return bool(self.config.compile)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting, in the form that the constructor takes."""
        return values_of(self.run_settings, self.config)

    @explained("agent.learn(100_000)")
    def learn(
        self,
        steps: int,
        *,
        of: int | None = None,
        out: str | Path | None = None,
        progress: bool = False,
        callbacks: Sequence[CallbackLike] = (),
    ) -> Self:
        """Trains for `steps` more environment steps; may be called again.

        Args:
            steps: number of steps, summed over all environments; rounded up to whole segments.
            of: the agent's total steps after several calls that share one schedule; None runs the
                schedules through this call alone.
            out: run folder for metrics, checkpoints and the learning curve; None writes nothing.
            progress: show a live view on the terminal.
            callbacks: watch the run and may stop it (docs/callbacks.md); `retain.Callback`s, names,
                or `module:Name`.
        """
        run = Path(out) if out is not None else None
        train(self, steps, of=of, run=run, progress=progress, callbacks=callbacks)
        return self

    @explained("agent.evaluate(episodes=20)")
    def evaluate(
        self,
        episodes: int = 20,
        *,
        deterministic: bool = True,
        seed: int | None = None,
        clear_every: int | None = None,
        env: EnvLike | None = None,
    ) -> Evaluation:
        """Plays whole episodes in fresh environments; training is not affected.

        If the environment is an object that cannot be copied, the evaluation borrows it. The
        current training episodes are then played back to where they were, or truncated if that is
        impossible.

        Args:
            env: another environment with the same spaces; the wrappers in the settings apply to it,
                env_kwargs do not.
            seed: seed of the episodes; None derives one from the run's seed.
            clear_every: clear the carry every so many steps, to measure what memory is worth.

        `Evaluation` with return_mean, return_std, length_mean, episodes, all returns, and the means
        of the entries in the episodes' last infos.
        """
        return evaluate(
            self, episodes, deterministic=deterministic, seed=seed, clear_every=clear_every, env=env
        )

    def description(self) -> dict[str, Any]:
        """The JSON description from which `load` builds this agent again."""
        return {
            "retain": __version__,
            "algo": self.algo,
            "algo_class": f"{type(self).__module__}:{type(self).__qualname__}",
            "env": self.env if isinstance(self.env, str) else None,
            "env_name": env_name(self.env) if self.env is not None else None,
            "run": to_json(self.run_settings),
            self.algo: to_json(self.config),
            "derived": [to_json(derived) for derived in self.derived],
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
        }

    @explained("agent.save(path)")
    def save(self, path: str | Path, *, shared: Path | None = None, **progress: Any) -> Path:
        """Writes the agent to a folder, completely or not at all: parameters, statistics,
        optimizers, replay and current episodes, so that `load(path).learn(...)` continues.

        Among several ranks every one must call this, and rank 0 writes.

        shared: a folder for data that several checkpoints share (a replay); `path` must stay next
            to it. None keeps everything in one folder.
        """
        path = Path(path)
        self._gather_large(shared)
        update_tensors, update_facts = self.learner_state()
        training = with_prefix("update.", update_tensors)
        facts: dict[str, Any] = {"update": update_facts}
        here = self._environment_state()
        if here is not None:
            training |= with_prefix("collector.", here[0])
            facts["collector"] = here[1]
        training, facts = put_together(training, facts, self.ranks)
        if self.ranks.rank:
            return path
        store.save_checkpoint(
            path,
            config=self.description(),
            model=self.policy.state_dict(),
            training=training,
            state=facts | {"progress": self.progress | progress},
            extra=lambda folder: self._save_large(folder, shared),
        )
        return path

    def restore(self, folder: Path) -> Progress:
        """Restores what `save` wrote; returns the progress saved with it."""
        model = store.load_tensors(folder, store.MODEL)
        with fitting(folder / store.MODEL):
            self.policy.load_state_dict(model)
        training, state = store.load_tensors(folder, store.TRAINING), store.load_state(folder)
        with fitting(folder / store.TRAINING):
            self._restore_learner(under_prefix("update.", training), state["update"])
            self._restore_large(folder, state)
        self._await_state(
            (under_prefix("collector.", training), state["collector"])
            if "collector" in state
            else None
        )
        self.progress = state["progress"]
        return self.progress


def run_name(env: str, algo: str, memory: str) -> str:
    """The name of a run folder."""
    short = memory.rpartition(":")[2]
    return f"{env.replace('/', '-').replace(':', '-')}-{algo}-{short}"


def named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every class or function replaced by the name that a configuration stores."""
    names = {"memory": memory_name, "encoder": encoder_name, "memory_options": write_options}
    names |= dict.fromkeys(("lr_schedule", "clip_schedule", "entropy_schedule"), schedule_name)
    return {k: names[k](v) if k in names else v for k, v in settings.items()}
