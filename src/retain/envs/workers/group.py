"""Environments that step together in workers: the policy's view of a pool."""

from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from retain.envs.buffers import buffers_of, slot_of
from retain.envs.contract import Backend, EnvStep, Fault, Info, ObsArray
from retain.envs.workers.block import group_arrays
from retain.envs.workers.handle import H, PoolView
from retain.envs.workers.protocol import DONE, Part


class Group(Backend, Generic[H]):
    """One group of a pool's environments."""

    resets_ahead = True

    def __init__(self, pool: PoolView[H], number: int, num_envs: int) -> None:
        super().__init__(num_envs)
        self.pool, self.number = pool, number
        self.observation_space, self.action_space = pool.observation_space, pool.action_space
        self.step_code, self.reset_code = bytes([2 * number]), bytes([2 * number + 1])
        self.arrays = group_arrays(pool.arrays, number)
        self.buffers = buffers_of(pool.observation_space, self.arrays)
        self.arrays["announced"][:] = self.arrays["begun"][:] = -1
        self._fresh = slot_of(pool.observation_space, self.arrays, 2)
        self.slot = 0
        self._lost = np.zeros(num_envs, dtype=np.bool_)
        self.infos: dict[int, Info] = {}
        self._playing_back = True

    def _reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        self._playing_back = False
        begun = self.arrays["begun"]
        ahead = mask & (begun == seeds)
        if ahead.any():  # done by the workers while others still stepped
            fresh = self._fresh
            for (now,), new in zip(
                self._columns(self.slot),
                fresh.values() if isinstance(fresh, dict) else [fresh],
                strict=True,
            ):
                now[ahead] = new[ahead]
        begun[mask] = -1
        mask = mask & ~ahead
        self.arrays["mask"][:], self.arrays["seed"][:] = mask, seeds
        asked = [h for h in self.pool.handles if mask[h.rows[self.number]].any()]
        for handle in asked:
            self.pool.ask(handle, self.reset_code)
        for handle in asked:
            self.pool.wait(handle, self.reset_code)
        return self.buffers.slots[self.slot]

    def announce(self, seeds: NDArray[np.int64]) -> None:
        """See the contract; a worker resets as soon as an episode ends."""
        self.arrays["announced"][:] = seeds

    def send(self, action: NDArray[Any]) -> None:
        """See the contract."""
        self.infos.clear()
        self.history.record(action)
        self.arrays["action"][:] = action
        self.slot = 1 - self.slot
        self.arrays["slot"][0] = self.slot
        for handle in self.pool.handles:
            self.pool.ask(handle, self.step_code)

    def receive(self) -> EnvStep:
        """See the contract."""
        for handle in self.pool.handles:
            self.pool.wait(handle, self.step_code)
        out = self.buffers
        if self._lost.any():
            self._cut_lost()
        return EnvStep(out.slots[self.slot], out.reward, out.terminated, out.truncated)

    def info(self, index: int) -> Info:
        """See the contract; values that are not plain data stay in the worker."""
        return self.infos.get(index, {})

    def _cut_lost(self) -> None:
        """Truncates episodes that could not be played back."""
        lost, out = np.flatnonzero(self._lost), self.buffers
        for now, before in self._columns(self.slot, 1 - self.slot):
            now[lost] = before[lost]
        out.reward[lost], out.terminated[lost], out.truncated[lost] = 0.0, False, True
        self._lost[:] = False
        for index in lost.tolist():
            self.infos.pop(index, None)
            text = "the episode that was played back reached another observation"
            self.faults.append(Fault("not deterministic", index, text))

    def _columns(self, *slots: int) -> list[tuple[NDArray[Any], ...]]:
        """The observation's arrays in these slots."""
        chosen = [self.buffers.slots[slot] for slot in slots]
        columns = [list(x.values()) if isinstance(x, dict) else [x] for x in chosen]
        return list(zip(*columns, strict=True))

    def episodes_of(self, rows: slice, pending: list[bytes]) -> Part:
        """The data to play some environments back up to their last response."""
        stepping, resetting = self.step_code in pending, self.reset_code in pending
        episodes = []
        for i in range(rows.start, rows.stop):
            anew = resetting and self.arrays["mask"][i]
            actions = [] if anew else self.history.actions_of(i, but_last=int(stepping))
            episodes.append((int(self.history.seeds[i]), actions))
        return self.slot if stepping or self._playing_back else 1 - self.slot, episodes

    def compare(self, spare: int, rows: slice, resetting: bool) -> None:
        """Marks environments as lost if the observation they were played back to, in slot `spare`,
        differs from the last one."""
        if self._playing_back:
            return
        for now, last in self._columns(spare, 1 - spare):
            same = (now[rows] == last[rows]).reshape(rows.stop - rows.start, -1).all(axis=1)
            if resetting:
                same |= self.arrays["mask"][rows]
            self._lost[rows] |= ~same

    def _play_back(self) -> ObsArray:
        pool = self.pool
        self._playing_back = True
        self.arrays["begun"][:] = -1
        for handle in pool.handles:
            parts: list[Part] = [(group.slot, []) for group in pool.groups]
            parts[self.number] = self.episodes_of(handle.rows[self.number], [])
            pool.ask_play_back(handle, parts)
        for handle in pool.handles:
            answer = pool.played_back(handle, self.history.clock)
            handle.pending.clear()
            if answer != DONE:
                pool.replace(handle, "worker hung" if answer is None else "worker died")
        self._playing_back = False
        return self.buffers.slots[self.slot]

    def close(self) -> None:
        """Ends the workers of all groups."""
        self.pool.close()
