"""A worker as a Ray actor: the environments of one worker on any node; never imports torch.

The arrays that a worker process shares with the trainer are the actor's own here, with its rows
alone. A message carries what a command reads of them, and the answer what it has written.
"""

import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from retain._version import __version__
from retain.envs.buffers import fresh_arrays
from retain.envs.spaces import columns
from retain.envs.workers.block import block_layout, group_arrays
from retain.envs.workers.protocol import News, Part
from retain.envs.workers.served import Served
from retain.errors import UsageError

Arrays = dict[str, NDArray[Any]]
ENDS = ("reward", "terminated", "truncated")
"""What a step writes besides observations."""
GIVEN = {0: ("action", "announced"), 1: ("mask", "seed")}
"""What a step (0) and a reset (1) read."""
Said = tuple[bytes, ...]
"""Rows of arrays, as bytes."""
Answer = tuple[Said, Said, News | None]
"""What a command has written, then the begun seeds and first observations of episodes that were
begun ahead (empty if none were), then the news."""


def packed(arrays: Arrays, names: Iterable[str], rows: slice) -> Said:
    """Some arrays' rows as bytes."""
    return tuple(arrays[name][rows].tobytes() for name in names)


def unpacked(said: Said, arrays: Arrays, names: Iterable[str], rows: slice) -> list[NDArray[Any]]:
    """The rows that `packed` made, in the shapes and dtypes of these arrays."""
    return [
        np.frombuffer(content, arrays[name].dtype).reshape(arrays[name][rows].shape)
        for content, name in zip(said, names, strict=True)
    ]


def observed(keys: Iterable[str], slot: int) -> list[str]:
    """Names of the arrays of an observation's slot."""
    return [f"obs{slot}.{key}" for key in keys]


class EnvActor:
    """The environments of one worker."""

    def build(self, start: dict[str, Any], sizes: Sequence[int]) -> bytes:
        """Makes the environments; answers with the spaces, or with what went wrong."""
        try:
            if start["version"] != __version__:
                raise UsageError(
                    f"a node of the Ray has retain {__version__} (expected {start['version']}, as "
                    "on this machine)"
                )
            sys.path += [path for path in start["path"] if path not in sys.path]
            self.served = Served(start, sizes)
        except UsageError as error:
            return bytes(cloudpickle.dumps({"usage": str(error)}))
        except Exception:
            return bytes(cloudpickle.dumps({"error": traceback.format_exc()}))
        first, each = self.served.groups[0], sizes[0]
        space, action_space = first.observation_space, first.action_space
        layout = block_layout(space, action_space, workers=1, groups=len(sizes), each=each)
        shared = fresh_arrays(layout)
        self.keys = list(columns(space))
        self.arrays = [group_arrays(shared, number) for number in range(len(sizes))]
        self.rows = slice(0, each)
        for arrays in self.arrays:
            arrays["announced"][:] = arrays["begun"][:] = -1
        self.served.adopt(self.arrays, [self.rows] * len(sizes))
        return self.served.hello

    def run(self, code: int, slot: int, said: Said) -> Answer:
        """Runs a step or the resets of a group."""
        arrays, names = self.arrays[code // 2], GIVEN[code % 2]
        for name, rows in zip(names, unpacked(said, arrays, names, self.rows), strict=True):
            arrays[name][:] = rows
        arrays["slot"][0] = slot
        if code % 2:
            arrays["begun"][arrays["mask"]] = -1
            self.served.run(code)
            return packed(arrays, observed(self.keys, slot), self.rows), (), self.served.take_news()
        self._enter_begun(arrays, 1 - slot)
        self.served.run(code)
        ahead: Said = ()
        if (arrays["begun"] >= 0).any():
            ahead = packed(arrays, ("begun", *observed(self.keys, 2)), self.rows)
        written = packed(arrays, (*observed(self.keys, slot), *ENDS), self.rows)
        return written, ahead, self.served.take_news()

    def _enter_begun(self, arrays: Arrays, slot: int) -> None:
        """Episodes that were begun ahead and not begun otherwise since are the current ones now."""
        begun = arrays["begun"] >= 0
        for now, fresh in zip(observed(self.keys, slot), observed(self.keys, 2), strict=True):
            arrays[now][begun] = arrays[fresh][begun]
        arrays["begun"][:] = -1

    def play_back(self, parts: Sequence[Part]) -> Answer:
        """Plays episodes back to where they were; what follows may look at either slot."""
        self.served.play_back(parts)
        written: Said = ()
        for arrays, (slot, episodes) in zip(self.arrays, parts, strict=True):
            arrays["begun"][:] = -1
            if episodes:
                names = observed(self.keys, slot)
                for now, other in zip(names, observed(self.keys, 1 - slot), strict=True):
                    arrays[other][:] = arrays[now]
                written += packed(arrays, names, self.rows)
        return written, (), self.served.take_news()
