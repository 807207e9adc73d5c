"""Any episode of a run once more, from its seed and its actions."""

import contextlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.atari import is_atari
from retain.envs.contract import Backend
from retain.envs.given import EnvLike, env_name, given_again
from retain.envs.in_process import InProcess
from retain.envs.make import fresh, make, make_single, separate
from retain.envs.options import EnvOptions
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.files import make_folder, refuse_links, shorten
from retain.train.loading import saved_env, saved_space, settings_of
from retain.train.recorder import Recorded, recorded, recorded_actions
from retain.train.validation import check_config


@dataclass(frozen=True)
class PlayedBack:
    """What an episode came to, then and now."""

    number: int
    record: Recorded
    ret: float
    length: int

    @property
    def same(self) -> bool:
        """Whether it came to the same again."""
        return self.ret == self.record.ret and self.length == self.record.length


def play_back(
    run: Path,
    number: int = -1,
    *,
    video: Path | None = None,
    env: EnvLike | None = None,
    trust: bool = False,
) -> PlayedBack:
    """Plays an episode of a run again.

    Args:
        number: from 0 in the order of their ends, or from -1 backwards.
        video: also write a .gif or .mp4 of it.
        env: the environment again, where the run was given an object of Python.
        trust: import the module that the run's configuration names for its environment, if any.
    Raises:
        CheckpointError: the folder holds no run, or no record of episodes.
        UsageError: no such episode, or it cannot be drawn.
    """
    if not (run / store.CONFIG).exists():
        raise CheckpointError(f"{run} holds no run (no {store.CONFIG} in it)")
    if video is not None:
        _check_video(video)
    refuse_links(run)
    where = run / store.CONFIG
    facts = store.read_json(where)
    check_config(facts, str(where))
    _, config, _ = settings_of(facts, where, trust=trust)
    options = config.env_options()
    if env is not None:
        env, kwargs = given_again(env, facts["env"], options.env_kwargs)
        options = replace(options, env_kwargs=kwargs)
    else:
        env = saved_env(facts, where, trust=trust)
    if env is None:
        raise UsageError(
            f"the environment of {run} was an object of Python, which no file holds: from Python, "
            f'retain.train.playback.play_back("{run}", env=...)'
        )
    record, number = recorded(run, number)
    space = saved_space(facts, "action", where)
    actions = recorded_actions(run, record, space, config.num_envs)
    backend = _backend(env, options, video is not None)
    frames: list[NDArray[Any]] = []
    total, length = 0.0, 0
    # A backend of several plays the same episode in all of them.
    B = backend.num_envs
    try:
        obs: Any = backend.reset(np.ones(B, dtype=np.bool_), np.full(B, record.seed))
        for action in actions:
            if video is not None:
                frames.append(_frame(backend, obs))
            obs, reward, terminated, truncated = backend.step(np.stack([action] * B))
            total, length = total + float(reward[0]), length + 1
            if (terminated | truncated)[0] and not backend.continuing[0]:
                break
        if video is not None:
            frames.append(_frame(backend, obs))
            write_video(video, frames)
    finally:
        backend.close()
    return PlayedBack(number, record, total, length)


def _backend(env: EnvLike, options: EnvOptions, drawn: bool) -> Backend:
    """One environment, of a kind that can be drawn if it is to be; or the object there is.

    Raises:
        UsageError: its episodes cannot be played again, or not be drawn.
    """
    if drawn and not is_atari(env):
        if separate(env) is None and not isinstance(env, gym.Env):
            raise UsageError(f"{env_name(env)} cannot be drawn: it has no environment of its own")
        with warnings.catch_warnings():  # of gymnasium's, about what is said below
            warnings.simplefilter("ignore", UserWarning)
            return InProcess([lambda: make_single(env, options, render_mode="rgb_array")])
    backend = fresh(env, 1, options)
    if backend is None:
        backend = make(env, env.num_envs if isinstance(env, Backend) else 1, options)
    if not backend.replays:
        raise UsageError(f"{env_name(env)} takes no seed for each episode: none can be played back")
    return backend


def _frame(backend: Backend, obs: Any) -> NDArray[Any]:
    """`[H, W, 3]` what there is to see."""
    if isinstance(backend, InProcess):
        frame: Any = None
        with contextlib.suppress(NotImplementedError):
            frame = backend.envs[0].render()
        if frame is None:
            raise UsageError(f"{backend.envs[0].unwrapped} cannot be drawn: it has no rgb_array")
        return np.asarray(frame, dtype=np.uint8)
    grey = obs[0, -1]
    return np.repeat(np.kron(grey, np.ones((4, 4), np.uint8))[..., None], 3, axis=-1)


def _check_video(path: Path) -> None:
    """A video can be written there.

    Raises:
        UsageError: it has another ending, or is a folder.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise UsageError(f"video is {shorten(path)} (expected a name that ends in .gif or .mp4)")
    if path.is_dir():
        raise UsageError(f"video is {shorten(path)}, a folder (expected the name of a file)")
    make_folder(path.parent, "video")


def write_video(path: Path, frames: list[NDArray[Any]], rate: int = 30) -> None:
    """A .gif, or with imageio an .mp4.

    Raises:
        UsageError: imageio is not installed.
    """
    if path.suffix == ".gif":
        from PIL import Image

        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(path, save_all=True, append_images=images[1:], duration=1000 // rate, loop=0)
        return
    try:
        import imageio
    except ImportError:
        raise UsageError(
            "an .mp4 needs an extra that is not installed: pip install 'retain[video]'; "
            "a .gif needs none"
        ) from None
    imageio.mimwrite(path, frames, fps=rate, macro_block_size=2)
