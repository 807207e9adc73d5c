"""Plays back any episode of a run from its seed and its actions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.envs.contract import Backend
from retain.envs.given import EnvLike, env_name, given_again
from retain.envs.make import fresh, make
from retain.envs.options import EnvOptions
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.files import refuse_links
from retain.train.loading import saved_env, saved_space, settings_of
from retain.train.recorder import Recorded, recorded, recorded_actions
from retain.train.validation import check_config
from retain.train.video import check_video, drawable, frame_of, write_video


@dataclass(frozen=True)
class PlayedBack:
    """The results of an episode, then and now."""

    number: int
    record: Recorded
    ret: float
    length: int

    @property
    def same(self) -> bool:
        """Whether both results are the same."""
        return self.ret == self.record.ret and self.length == self.record.length


def play_back(
    run: Path,
    number: int = -1,
    *,
    video: Path | None = None,
    env: EnvLike | None = None,
    trust: bool = False,
) -> PlayedBack:
    """Plays back an episode of a run.

    Args:
        number: the episode's number in order of ending, from 0, or from -1 backwards.
        video: also write a .gif or .mp4 of the episode.
        env: the environment, if the run was given a Python object.
        trust: import the module that the run's configuration names for its environment, if any.
    Raises:
        CheckpointError: the folder holds no run, or no record of episodes.
        UsageError: there is no such episode, or it cannot be drawn.
    """
    if not (run / store.CONFIG).exists():
        raise CheckpointError(f"{run} holds no run (no {store.CONFIG} in it)")
    if video is not None:
        check_video(video)
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
            f"the environment of {run} was a Python object, which no file can hold: from Python, "
            f'retain.train.playback.play_back("{run}", env=...)'
        )
    record, number = recorded(run, number)
    space = saved_space(facts, "action", where)
    actions = recorded_actions(run, record, space, config.num_envs)
    backend = drawable(env, options) if video is not None else _backend(env, options)
    frames: list[NDArray[Any]] = []
    total, length = 0.0, 0
    # A backend of several plays the same episode in all of them.
    B = backend.num_envs
    try:
        obs: Any = backend.reset(np.ones(B, dtype=np.bool_), np.full(B, record.seed))
        for action in actions:
            if video is not None:
                frames.append(frame_of(backend, obs))
            obs, reward, terminated, truncated = backend.step(np.stack([action] * B))
            total, length = total + float(reward[0]), length + 1
            if (terminated | truncated)[0] and not backend.continuing[0]:
                break
        if video is not None:
            frames.append(frame_of(backend, obs))
            write_video(video, frames)
    finally:
        backend.close()
    return PlayedBack(number, record, total, length)


def _backend(env: EnvLike, options: EnvOptions) -> Backend:
    """One environment, or the object that was given.

    Raises:
        UsageError: the environment's episodes cannot be played back.
    """
    backend = fresh(env, 1, options)
    if backend is None:
        backend = make(env, env.num_envs if isinstance(env, Backend) else 1, options)
    if not backend.plays_back:
        raise UsageError(
            f"{env_name(env)} takes no seed for each episode: episodes cannot be played back"
        )
    return backend
