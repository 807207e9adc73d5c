"""A `gymnasium.vector.VectorEnv` as a backend: it keeps its copies and threads, we reset them.

The backend reads the vector's behaviour at an episode's end from `metadata["autoreset_mode"]` and
undoes it, so that a step always shows the true final observation and an episode begins only when it
is told to.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from numpy.typing import NDArray

from retain.envs.contract import Backend, EnvStep, Info, ObsArray
from retain.envs.in_process import InProcess
from retain.envs.spaces import action_converter, dig, entries, flat_space, unreadable
from retain.envs.wrappers import left_out, readable
from retain.errors import UsageError, notice

Seeds = NDArray[np.int64]
Rows = NDArray[np.bool_]
Seeding = Callable[[Seeds, Rows], Any]
EACH: tuple[Seeding, ...] = (
    lambda seeds, mask: seeds.tolist(),
    lambda seeds, mask: seeds[mask].astype(np.int32),
)
"""Ways in which a vector takes one seed per episode: gymnasium's and ale-py's."""
TOGETHER: tuple[Seeding, ...] = (lambda seeds, mask: int(seeds[0]), lambda seeds, mask: None)
"""Ways in which other vectors take one seed for all episodes, or none."""


def vector_name(env: Any) -> str:
    """The name of a vector environment: the id of its environments, or its class."""
    spec = env.spec
    if spec is None and hasattr(env.unwrapped, "get_attr"):
        spec = env.unwrapped.get_attr("spec")[0]
    return type(env.unwrapped).__name__ if spec is None else str(spec.id)


class Vector(Backend):
    """The environments of a vector environment.

    With autoreset DISABLED, the vector is used directly. With NEXT_STEP, an explicit reset of ended
    environments comes before its own. With SAME_STEP, the final observation is taken from `info`.
    If the vector takes `reset_mask` and one seed per environment, every episode has its own seed
    and can be played back. If not, one notice says so, and `plays_back` is false.

    Raises:
        UsageError: the vector's mode is unknown, it can neither reset single environments nor does
            so itself in time, or a space is unsupported.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env.num_envs)
        self.env, self.name = env, vector_name(env)
        space = env.single_observation_space
        dropped = unreadable(space) if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple) else []
        self.observation_space = flat_space(space, dropped)
        self.action_space = env.single_action_space
        action_converter(self.action_space)
        self._paths = {k: path for k, (path, _) in entries(space).items() if k not in dropped}
        self._same_step = _mode(env) is AutoresetMode.SAME_STEP
        self._waiting = np.zeros(self.num_envs, dtype=np.bool_)
        """`[B]` true at the first observation of an episode that has not been requested yet."""
        self._infos: Any = {}
        self._seeding = self._find_seeding()
        self._masked = self.num_envs > 1 and self._heeds_mask()
        self._waiting[:] = False  # whatever was tried, training begins with its own seeds
        alone = self.num_envs == 1 and self._seeding is TOGETHER[0]
        self.plays_back = alone or (self._seeding in EACH and (self._masked or self.num_envs == 1))
        if not self._masked and not self._same_step and self.num_envs > 1:
            raise UsageError(
                f"{type(env.unwrapped).__name__} takes no reset_mask, and begins an episode only "
                "with the step after an end: make it with autoreset_mode=AutoresetMode.SAME_STEP, "
                "or pass a callable that makes one environment"
            )
        if dropped:
            notice(left_out(self.name, dropped))
        if not self.plays_back:
            notice(
                f"{type(env.unwrapped).__name__} takes no seed for each episode: episodes "
                "cannot be played back, and a resumed run begins new ones"
            )

    def _find_seeding(self) -> Seeding:
        """The vector's way of taking seeds: the first in which equal seeds begin equal episodes."""
        seeds = np.arange(self.num_envs, dtype=np.int64)
        for seeding in (*EACH, TOGETHER[0]):
            try:
                once, again = (self._whole(seeding, seeds) for _ in range(2))
            except Exception:  # of any kind: a vector says as it likes that it does not take this
                continue
            if _equal(once, again, np.ones(self.num_envs, dtype=np.bool_)):
                return seeding
        self._whole(TOGETHER[-1], seeds)
        return TOGETHER[-1]

    def _heeds_mask(self) -> bool:
        """Whether the vector resets single environments and leaves the others unchanged."""
        seeds = np.arange(self.num_envs, dtype=np.int64)
        first, begun = seeds == 0, self._begun
        try:
            self._act(np.stack([self._some_action()] * self.num_envs))
            after = self._masked_reset(seeds, first)
            begins = self._seeding not in EACH or _equal(begun, after, first)
            return begins and _equal(self._obs, after, ~first)
        except Exception:  # likewise
            return False

    def _some_action(self) -> Any:
        self.action_space.seed(0)
        return np.asarray(self.action_space.sample(), dtype=self.action_space.dtype)

    def _whole(self, seeding: Seeding, seeds: Seeds) -> ObsArray:
        mask = np.ones(self.num_envs, dtype=np.bool_)
        obs, _ = self.env.reset(seed=seeding(seeds, mask))
        self._obs, self._begun, self._waiting = self._arrays(obs), self._arrays(obs), mask
        return self._obs

    def _masked_reset(self, seeds: Seeds, mask: Rows) -> ObsArray:
        seed = self._seeding(seeds, mask) if self._seeding in EACH else None
        obs, _ = self.env.reset(seed=seed, options={"reset_mask": mask.copy()})
        return self._arrays(obs)

    def _arrays(self, obs: Any) -> ObsArray:
        """Copies of the arrays, since a vector may write to its own again."""
        if isinstance(self.observation_space, gym.spaces.Dict):
            spaces = self.observation_space.spaces
            return {
                key: np.array(dig(obs, path), dtype=spaces[key].dtype)
                for key, path in self._paths.items()
            }
        return np.array(obs, dtype=self.observation_space.dtype)

    def _reset(self, mask: Rows, seeds: Seeds) -> ObsArray:
        ready = mask & self._waiting & (not self.plays_back)
        anew = mask & ~ready
        if anew.all():
            self._whole(self._seeding, seeds)
        elif anew.any() and self._masked:
            self._put(self._masked_reset(seeds, anew), anew)
        elif anew.any():
            raise UsageError(f"{self.name} resets all of its environments or none")
        self._put(self._begun, ready)
        self._waiting = self._waiting & ~mask
        return self._obs

    def _put(self, new: ObsArray, rows: Rows) -> None:
        """Writes some rows of the current observations."""
        if isinstance(new, dict) and isinstance(self._obs, dict):
            for key, column in self._obs.items():
                column[rows] = new[key][rows]
        else:
            self._obs[rows] = new[rows]  # type: ignore[index]

    def _act(self, action: NDArray[Any]) -> tuple[Any, Any, Any]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._obs = self._arrays(obs)
        terminated, truncated = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        ended = terminated | truncated
        if self._same_step and ended.any():
            self._begun = self._arrays(obs)
            self._write_final(info, np.flatnonzero(ended))
        self._waiting = ended & self._same_step
        self._infos = info.get("final_info", info) if self._same_step else info
        return np.array(reward, np.float64), terminated, truncated

    def _write_final(self, info: dict[str, Any], rows: NDArray[np.intp]) -> None:
        final = info.get("final_obs")
        if final is None:
            raise UsageError(f"{self.name} resets in the same step but gives no info['final_obs']")
        for row in rows.tolist():
            for key, path in self._paths.items():
                # A batched dict holds its rows inside, an array of observations outside.
                inside = dig(final, path)[row] if isinstance(final, dict) else dig(final[row], path)
                column = self._obs[key] if isinstance(self._obs, dict) else self._obs
                column[row] = inside

    def _step(self, action: NDArray[Any]) -> EnvStep:
        reward, terminated, truncated = self._act(action)
        return EnvStep(self._obs, reward, terminated, truncated)

    def info(self, index: int) -> Info:
        """See the contract; gymnasium marks in `_key` which environments have an entry `key`."""
        infos = self._infos
        if isinstance(infos, np.ndarray | list | tuple):  # one for each, as before Gymnasium 1.0
            return infos[index] or {}
        there = {key: infos.get(f"_{key}") for key in infos if not key.startswith("_")}
        return {
            key: infos[key][index]
            for key, rows in there.items()
            if rows is not None and rows[index]
        }

    def _play_back(self) -> ObsArray:
        if self.plays_back:
            return super()._play_back()
        self._whole(self._seeding, self.history.seeds)
        return self._obs

    def fresh(self, num_envs: int) -> Backend | None:
        """See the contract; made from `env_fns` or the spec, in this process."""
        makers = self.makers()
        if makers is None:
            return None
        copies = [makers[index % len(makers)] for index in range(num_envs)]
        return InProcess([partial(_readable, make) for make in copies])

    def makers(self) -> list[Callable[[], gym.Env[Any, Any]]] | None:
        """Makers of the vector's environments one by one; None if they are unknown."""
        return vector_makers(self.env)

    def close(self) -> None:
        """Closes the vector."""
        self.env.close()


def _readable(make: Callable[[], gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    return readable(make())


def vector_makers(env: Any) -> list[Callable[[], gym.Env[Any, Any]]] | None:
    """Makers of a vector's environments one by one; None if they are unknown, or if a wrapper
    around the vector changes the environments."""
    if env is not env.unwrapped:
        return None
    if hasattr(env, "env_fns"):
        return list(env.env_fns)
    spec = env.spec
    if spec is None or spec.entry_point is None:
        return None
    ours = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")
    kwargs = {k: v for k, v in spec.kwargs.items() if k not in ours}

    def make() -> gym.Env[Any, Any]:
        return gym.make(spec.id, disable_env_checker=True, **kwargs)

    return [make] if _same_spaces(make, env) else None


def _same_spaces(make: Callable[[], gym.Env[Any, Any]], env: Any) -> bool:
    """Whether the single version has the same spaces; a vector may preprocess as well."""
    try:
        one = make()
    except Exception:  # there is none, or it takes other arguments
        return False
    one.close()
    spaces = (env.single_observation_space, env.single_action_space)
    return (one.observation_space, one.action_space) == spaces


def _mode(env: Any) -> AutoresetMode:
    said = env.metadata.get("autoreset_mode")
    try:
        mode: AutoresetMode = AutoresetMode(said)
    except ValueError:
        raise UsageError(
            f"{vector_name(env)} gives no autoreset mode: metadata['autoreset_mode'] is {said!r} "
            "(expected an AutoresetMode)"
        ) from None
    inner = env.unwrapped
    forgets = isinstance(inner, AsyncVectorEnv) and not inner.shared_memory
    if forgets and mode is AutoresetMode.NEXT_STEP:  # its workers reset again after a reset
        raise UsageError(
            "AsyncVectorEnv(shared_memory=False) in mode NEXT_STEP resets twice: make it with "
            "autoreset_mode=AutoresetMode.DISABLED"
        )
    return mode


def _equal(one: ObsArray, two: ObsArray, rows: Rows) -> bool:
    pairs = (
        [(one[key], two[key]) for key in one]
        if isinstance(one, dict) and isinstance(two, dict)
        else [(one, two)]
    )
    return all(np.array_equal(a[rows], b[rows]) for a, b in pairs)  # type: ignore[index]
