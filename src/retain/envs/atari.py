"""Atari 2600 games, many at once in the C++ threads of `ale_py.vector_env`.

The preprocessing is the standard one (Machado et al. 2018): four frames per action, the brighter of
the last two, grey, 84 x 84, up to 30 no-ops at the start, FIRE where a game waits for it. The games
reset only when told to, each with its own seed, and a game is its seed and its actions.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.contract import Backend, EnvStep, Info, ObsArray
from retain.envs.options import EnvOptions
from retain.errors import UsageError, unknown

PREFIX = "ALE/"
FRAMES = 4
"""Number of frames per action, unless `frame_skip` sets another."""


def is_atari(env: Any) -> bool:
    """Whether this backend plays the environment."""
    return isinstance(env, str) and env.startswith(PREFIX)


def rom(env: str) -> str:
    """The ROM of an id (ALE/MsPacman-v5 has ms_pacman); also registers the ids with gymnasium.

    Raises:
        UsageError: there is no such game, or ale-py is not installed.
    """
    try:
        import ale_py
    except ImportError:
        raise UsageError(
            f"{env} needs an extra that is not installed: pip install 'retain[atari]'"
        ) from None
    gym.register_envs(ale_py)
    name = env if "-v" in env else f"{env}-v5"
    if name not in gym.registry:
        known = [one for one in gym.registry if one.startswith(PREFIX)]
        raise unknown("environment", env, known)
    return str(gym.registry[name].kwargs["game"])


class Atari(Backend):
    """B games of one kind.

    Args:
        env: `ALE/Pong-v5` and the like.
        options: `frame_stack`, `episodic_life`, `sticky_actions`, `frame_skip`, `time_limit`.
    Raises:
        UsageError: an unknown game, ale-py is not installed, or an option cannot apply.
    """

    def __init__(self, env: str, num_envs: int, options: EnvOptions) -> None:
        super().__init__(num_envs)
        for name in ("drop_obs", "hide", "obs_noise", "flicker", "mask_actions"):
            if getattr(options, name):
                raise UsageError(f"{name} cannot be used with {env}: its games are stepped in C++")
        game = rom(env)
        from ale_py.vector_env import AtariVectorEnv

        skip = options.frame_skip if options.frame_skip > 1 else FRAMES
        limit = 27_000 if options.time_limit is None else options.time_limit
        self._episodic_life = options.episodic_life
        try:
            self._games = AtariVectorEnv(
                game, num_envs, frameskip=skip, stack_num=options.frame_stack,
                repeat_action_probability=options.sticky_actions, reward_clipping=False,
                life_loss_info=options.episodic_life, max_num_frames_per_episode=limit * skip,
                **options.env_kwargs,
            )  # fmt: skip
        except TypeError as error:
            raise UsageError(f"{env} does not take env_kwargs: {error}") from None
        self.observation_space = self._games.single_observation_space
        self.action_space = self._games.single_action_space
        self._started = False
        self._infos: dict[str, Any] = {}

    def _reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        if not self._started:  # the vector wants a whole reset first; every game gets its own later
            self._games.reset(seed=seeds.astype(np.int32))
            self._started = True
        obs, _ = self._games.reset(
            seed=seeds[mask].astype(np.int32), options={"reset_mask": mask.copy()}
        )
        result: NDArray[Any] = obs
        return result

    def send(self, action: NDArray[Any]) -> None:
        """See the contract; the games' own threads begin at once."""
        self.history.record(action)
        self._games.send(action)

    def receive(self) -> EnvStep:
        """See the contract."""
        obs, reward, terminated, truncated, self._infos = self._games.recv()
        if self._episodic_life:
            self.continuing = terminated & (self._infos["lives"] > 0) & ~truncated
        return EnvStep(obs, reward.astype(np.float64), terminated, truncated)

    def info(self, index: int) -> Info:
        """See the contract."""
        return {key: column[index] for key, column in self._infos.items()}

    def _step(self, action: NDArray[Any]) -> EnvStep:
        self._games.send(action)
        return self.receive()

    def close(self) -> None:
        """Ends the games' threads."""
        self._games.close()
