"""Any episode of a run once more, from its seed and its actions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.envs.make import EnvLike, make
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.config import RunConfig, build
from retain.train.recorder import Recorded, recorded, recorded_actions
from retain.train.spaces import space_from_json
from retain.train.video import drawable, frame_of, write_video


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
    run: Path, number: int = -1, *, video: Path | None = None, env: EnvLike | None = None
) -> PlayedBack:
    """Plays an episode of a run again.

    Args:
        number: from 0 in the order of their ends, or from -1 backwards.
        video: also write a .gif or .mp4 of it.
        env: the callable the run was trained with, if it was one.
    Raises:
        CheckpointError: the folder holds no run, or no record of episodes.
        UsageError: no such episode, or it cannot be drawn.
    """
    if not (run / store.CONFIG).exists():
        raise CheckpointError(f"{run} holds no run (no {store.CONFIG} in it)")
    facts = store.read_json(run / store.CONFIG)
    env = env if env is not None else facts["env"]
    if env is None:
        raise UsageError(f"{run} was trained with a callable: play_back(run, env=...)")
    record, number = recorded(run, number)
    config = build(RunConfig, facts["run"])
    space = space_from_json(facts["action_space"])
    actions = recorded_actions(run, record, space, config.num_envs)
    options = config.env_options()
    backend = drawable(env, options) if video is not None else make(env, 1, options)
    frames: list[NDArray[Any]] = []
    total, length = 0.0, 0
    everywhere = np.ones(1, dtype=np.bool_)
    try:
        obs: Any = backend.reset(everywhere, np.array([record.seed]))
        for action in actions:
            if video is not None:
                frames.append(frame_of(backend, obs))
            obs, reward, terminated, truncated = backend.step(action[None])
            total, length = total + float(reward[0]), length + 1
            if (terminated | truncated)[0] and not backend.continuing[0]:
                break
        if video is not None:
            frames.append(frame_of(backend, obs))
            write_video(video, frames)
    finally:
        backend.close()
    return PlayedBack(number, record, total, length)
