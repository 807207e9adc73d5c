"""Records every episode of a run as its seed and actions, to play it back for a video or a bug.

`episodes.jsonl` has one line per finished episode. `actions.bin` holds the actions of every step of
all environments, one row `[B, ...]` per step, in the space's own dtype or in bytes if those
suffice.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.data.episodes import Episode
from retain.data.stream import Driver
from retain.errors import CheckpointError, UsageError
from retain.train.files import keep_bytes, parse_json, read_bytes
from retain.train.validation import EPISODE

EPISODES, ACTIONS = "episodes.jsonl", "actions.bin"


def action_row(space: gym.Space[Any], num_envs: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of one row of the file."""
    dtype = np.dtype(space.dtype)
    if isinstance(space, gym.spaces.Discrete):
        last = int(space.start + space.n - 1)
        dtype = np.dtype(np.uint8 if space.start >= 0 and last < 256 else np.int64)
    return (num_envs, *(space.shape or ())), dtype


@dataclass(frozen=True)
class Recorded:
    """One episode of a run."""

    env: int
    episode: int
    seed: int
    first: int
    """Row of the episode's first action."""
    length: int
    ret: float
    """The reported return: the sum of the environment's own rewards."""


class Recorder:
    """Appends the episodes and actions of a driver's environments.

    Args:
        offsets: number of bytes to keep of each file; a resumed run drops what a killed run wrote
            after its checkpoint.
    """

    def __init__(self, run: Path, driver: Driver, offsets: tuple[int, int]) -> None:
        self.driver = driver
        self.files = []
        for name, offset in zip((EPISODES, ACTIONS), offsets, strict=True):
            keep_bytes(run / name, offset)
            self.files.append((run / name).open("ab"))
        space = driver.streams[0].backend.action_space
        shape, self.dtype = action_row(space, driver.all_envs)
        size = int(np.prod(shape)) * self.dtype.itemsize
        histories = [stream.backend.history for stream in driver.streams]
        self.histories = histories
        for history in histories:
            history.unread = history.clock
        rows = offsets[1] // size
        self._moved = [
            rows - stream.backend.history.clock
            for stream in driver.streams
            for _ in range(stream.num_envs)
        ]
        """The offset from the clock of each environment's history to the file's row; after a resume
        every group has its own clock."""
        # Other ranks' episodes are told by the clock of the first environments here.
        self._moved += [self._moved[0]] * (driver.all_envs - driver.num_envs)

    def write(self, finished: list[Episode]) -> None:
        """Writes the steps since the last call, and the episodes that ended in them."""
        parts = [history.take() for history in self.histories]
        if parts[0]:
            own = [np.stack(part) for part in parts]
            joined = np.concatenate([*own, *self.driver.elsewhere], axis=1)
            self.files[1].write(joined.astype(self.dtype, copy=False).tobytes())
        lines = []
        for episode in finished:
            first = episode.end - episode.length + self._moved[episode.env]
            if first < 0:  # it began before anything was recorded
                continue
            lines.append(
                f'{{"env": {episode.env}, "episode": {episode.number}, "seed": {episode.seed}, '
                f'"first": {first}, "length": {episode.length}, "ret": {episode.ret!r}}}\n'
            )
        self.files[0].write("".join(lines).encode())

    def offsets(self) -> tuple[int, int]:
        """Number of bytes written so far to each file, all passed on to the system."""
        for file in self.files:
            file.flush()
        return self.files[0].tell(), self.files[1].tell()

    def close(self) -> None:
        """Closes the files."""
        for file in self.files:
            file.close()
        for history in self.histories:
            history.unread = None


def recorded(run: Path, number: int) -> tuple[Recorded, int]:
    """The episode with this number (in order of ending from 0, or from -1 backwards), and its
    number from 0.

    Raises:
        CheckpointError: the run has no record.
        UsageError: the run has no such episode.
    """
    path = run / EPISODES
    if not path.exists():
        raise CheckpointError(f"{run} has no record of episodes (no {EPISODES} in it)")
    lines = [line for line in read_bytes(path).split(b"\n") if line.endswith(b"}")]
    if not lines:
        raise UsageError(f"{run} has no episode {number}: none has ended yet")
    if not -len(lines) <= number < len(lines):
        raise UsageError(
            f"{run} has no episode {number} (expected 0 to {len(lines) - 1}, or from -1 backwards)"
        )
    where = f"{path}, line {number % len(lines) + 1}"
    facts = parse_json(lines[number], Path(where))
    EPISODE(facts, where)
    known = {name: facts[name] for name in Recorded.__dataclass_fields__ if name in facts}
    return Recorded(**known), number % len(lines)


def recorded_actions(
    run: Path, episode: Recorded, space: gym.Space[Any], num_envs: int
) -> NDArray[Any]:
    """`[length, ...]` actions of an episode, in the space's own dtype.

    Raises:
        CheckpointError: the file is missing or shorter than the episode, or the run has no such
            environment.
    """
    shape, dtype = action_row(space, num_envs)
    size = math.prod(shape) * dtype.itemsize
    path = run / ACTIONS
    held = path.lstat().st_size if path.is_file() else 0
    if (episode.first + episode.length) * size > held:
        raise CheckpointError(
            f"{path} ends before the episode does: it has {held:,} bytes, but rows {episode.first} "
            f"to {episode.first + episode.length - 1} of {size} bytes are needed"
        )
    if episode.env >= num_envs:
        raise CheckpointError(
            f"{run / EPISODES}: env is {episode.env} (expected 0 to {num_envs - 1})"
        )
    with path.open("rb") as file:
        file.seek(episode.first * size)
        data = file.read(episode.length * size)
    rows = np.frombuffer(data, dtype).reshape(episode.length, *shape)
    return rows[:, episode.env].astype(space.dtype)
