"""Films episodes of an environment that can be drawn, into a .gif or .mp4."""

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.data.episodes import Episode, Episodes
from retain.envs.atari import is_atari
from retain.envs.contract import Backend
from retain.envs.given import EnvLike, env_name
from retain.envs.in_process import InProcess
from retain.envs.make import make, make_single, separate
from retain.envs.options import EnvOptions
from retain.errors import UsageError
from retain.train.contract import Player
from retain.train.evaluate import evaluation_options, evaluation_seed
from retain.train.files import make_folder, shorten


def film(
    agent: Player, video: Path, *, deterministic: bool = True, seed: int | None = None
) -> Episode:
    """Plays and films one episode with a trained agent: the first that `evaluate` plays.

    Args:
        seed: seed of the episode; see `evaluate`.
    Raises:
        UsageError: the environment cannot be drawn, or the file is neither .gif nor .mp4.
    """
    env, options = evaluation_options(agent)
    seed = evaluation_seed(agent, seed)
    check_video(video)
    backend = drawable(env, options)
    runs = Episodes(backend, seed)
    everywhere = np.ones(1, dtype=np.bool_)
    frames: list[NDArray[np.uint8]] = []
    try:
        obs, reset, carry = runs.begin(everywhere), everywhere, agent.initial_carry(1)
        reward, over = np.zeros(1), False
        with agent.noise_of(seed):
            while not over:
                frames.append(frame_of(backend, obs))
                action, carry = agent.act(
                    obs, carry, reset, deterministic=deterministic, reward=reward
                )
                obs, reward, terminated, truncated = backend.step(action)
                runs.record(reward)
                reset = np.zeros(1, dtype=np.bool_)
                over = bool((terminated | truncated)[0])
        frames.append(frame_of(backend, obs))
        runs.finish(everywhere)
    finally:
        backend.close()
    write_video(video, frames)
    return runs.statistics.take_finished()[0]


def drawable(env: EnvLike, options: EnvOptions) -> Backend:
    """Makes one environment that can be drawn.

    Raises:
        UsageError: the agent has no environment of its own to draw.
    """
    if is_atari(env):
        return make(env, 1, options)
    if separate(env) is None and not isinstance(env, gym.Env):
        raise UsageError(f"{env_name(env)} cannot be drawn: it has no environment of its own")
    with warnings.catch_warnings():  # of gymnasium's, about what is said below
        warnings.simplefilter("ignore", UserWarning)
        return InProcess([lambda: make_single(env, options, render_mode="rgb_array")])


def check_video(path: Path) -> None:
    """Refuses a file that cannot be written, before any episode is played.

    Raises:
        UsageError: the file is neither .gif nor .mp4, or is a folder.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise UsageError(f"video is {shorten(path)} (expected a name that ends in .gif or .mp4)")
    if path.is_dir():
        raise UsageError(f"video is {shorten(path)}, a folder (expected the name of a file)")
    make_folder(path.parent, "video")


def frame_of(backend: Backend, obs: Any) -> NDArray[np.uint8]:
    """The picture of an environment, `[H, W, 3]`."""
    if isinstance(backend, InProcess):
        frame: Any = None
        with contextlib.suppress(NotImplementedError):
            frame = backend.envs[0].render()
        if frame is None:
            raise UsageError(f"{backend.envs[0].unwrapped} cannot be drawn: it has no rgb_array")
        return np.asarray(frame, dtype=np.uint8)
    grey = obs[0, -1]
    scaled: NDArray[np.uint8] = np.kron(grey, np.ones((4, 4), np.uint8))
    return np.repeat(scaled[..., None], 3, axis=-1)


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], rate: int = 30) -> None:
    """Writes a .gif, or with imageio an .mp4.

    Raises:
        UsageError: the file has another ending, or imageio is not installed.
    """
    check_video(path)
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
