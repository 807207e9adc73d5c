"""Gymnasium environments, stepped one after the other in this process."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.buffers import Buffers, buffers_layout, buffers_of, fresh_arrays
from retain.envs.contract import Backend, EnvStep, Fault, Info, ObsArray
from retain.envs.sanity import Sanity
from retain.envs.spaces import action_converter, dig, entries, flat_space
from retain.envs.wrappers import ACTION_MASK
from retain.errors import UsageError


class _Unstarted:
    """Stands in for an environment whose reset raised."""

    def __init__(self, text: str) -> None:
        self.text = text

    def step(self, action: Any) -> Any:
        raise RuntimeError(f"its last reset had raised:\n{self.text}")


class InProcess(Backend):
    """A list of gymnasium environments without autoreset.

    If an environment raises, or its response fails `Sanity`, its episode is truncated there and a
    `Fault` is recorded.

    Args:
        factories: functions that make one environment each, all with the same spaces.
    Raises:
        UsageError: a space is unsupported, or the environments have different spaces.
    """

    def __init__(self, factories: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        super().__init__(len(factories))
        self.envs = [factory() for factory in factories]
        self._live: list[Any] = list(self.envs)
        self._infos: list[Info] = [{}] * len(self.envs)
        first = self.envs[0]
        for env in self.envs:
            if (env.observation_space, env.action_space) != (
                first.observation_space,
                first.action_space,
            ):
                raise UsageError(f"environments differ in their spaces: {env} and {first}")
        self.observation_space = flat_space(first.observation_space)
        self._paths = {key: path for key, (path, _) in entries(first.observation_space).items()}
        self.action_space = first.action_space
        self._convert = action_converter(self.action_space)
        self._sanity = Sanity(self.observation_space, self.action_space, self.num_envs)
        layout = buffers_layout(self.observation_space, self.num_envs)
        self.adopt(buffers_of(self.observation_space, fresh_arrays(layout)))

    def adopt(self, buffers: Buffers) -> None:
        """Writes into these arrays from now on."""
        self.buffers, self._slot = buffers, 0
        self._obs = buffers.slots[0]

    def turn(self, slot: int) -> None:
        """Sets the slot for the next observations."""
        self._slot, self._obs = slot, self.buffers.slots[slot]

    def _write(self, index: int, observation: Any) -> None:
        if isinstance(self._obs, dict):
            for key, path in self._paths.items():
                self._obs[key][index] = dig(observation, path)
        else:
            self._obs[index] = observation

    def _reset(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        for index in np.flatnonzero(mask):
            self._reset_one(int(index), int(seeds[index]))
        return self._obs

    def reset_rows(self, mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> ObsArray:
        """`reset` inside a worker; the parent process records the episodes."""
        return self._reset(mask, seeds)

    def step_rows(self, action: NDArray[Any]) -> EnvStep:
        """`step` inside a worker; the parent process records the episodes."""
        return self._step(action)

    def reset_into(self, rows: ObsArray, index: int, seed: int) -> bool:
        """Begins an episode whose first observation goes to other rows; returns whether it began.
        The reset that is requested later reports any fault, as one of its own episode."""
        kept, self._obs, before = self._obs, rows, len(self.faults)
        self._reset_one(index, seed)
        self._obs = kept
        began = len(self.faults) == before
        del self.faults[before:]
        return began

    def _refuse_start(self, index: int, text: str) -> None:
        """Marks an episode with an unusable first observation, so that its first step truncates
        it."""
        self._live[index] = _Unstarted(text)
        self.faults.append(Fault("unusable", index, f"at the reset, {text}"))
        self._blank(index)

    def _blank(self, index: int) -> None:
        """Writes an observation that can be acted on, with any result."""
        for key, column in (self._obs if isinstance(self._obs, dict) else {"": self._obs}).items():
            column[index] = 1 if key == ACTION_MASK else 0

    def _reset_one(self, index: int, seed: int) -> None:
        try:
            observation, _ = self.envs[index].reset(seed=seed)
            self._write(index, observation)
            self._live[index] = self.envs[index]
            wrong = self._sanity.find(self._obs).get(index)
            if wrong is not None:
                self._refuse_start(index, wrong)
        except Exception:
            text = traceback.format_exc()
            self._live[index] = _Unstarted(text)
            self._blank(index)
            self.faults.append(Fault("raised", index, text))

    def _step(self, action: NDArray[Any]) -> EnvStep:
        self.turn(1 - self._slot)
        convert, write, out, infos = self._convert, self._write, self.buffers, self._infos
        reward, terminated, truncated = out.reward, out.terminated, out.truncated
        for index, env in enumerate(self._live):
            try:
                observation, reward[index], terminated[index], truncated[index], infos[index] = (
                    env.step(convert(action[index]))
                )
                write(index, observation)
            except Exception:
                self._cut(index)
                self.faults.append(Fault("raised", index, traceback.format_exc()))
        over = terminated | truncated
        for index, text in self._sanity.find(self._obs, reward, over).items():
            self._cut(index)
            self.faults.append(Fault("unusable", index, text))
        return EnvStep(self._obs, reward, terminated, truncated)

    def _cut(self, index: int) -> None:
        """Truncates the environment's episode where it was."""
        now, before, out = self._obs, self.buffers.slots[1 - self._slot], self.buffers
        if isinstance(now, dict) and isinstance(before, dict):
            for key, column in now.items():
                column[index] = before[key][index]
        else:
            now[index] = before[index]  # type: ignore[index]
        out.reward[index], out.terminated[index], out.truncated[index] = 0.0, False, True
        self._infos[index] = {}

    def info(self, index: int) -> Info:
        """See the contract."""
        return self._infos[index]

    def _play_back(self) -> ObsArray:
        for index in range(self.num_envs):
            seed, actions = int(self.history.seeds[index]), self.history.actions_of(index)
            self.play_back_one(index, seed, actions)
        return self._obs

    def play_back_one(self, index: int, seed: int, actions: Sequence[Any]) -> None:
        """Plays one environment's episode back to where it was, into the current slot.

        An exception on the way leaves a fault; the observation then differs from the expected one.
        """
        self._reset_one(index, seed)
        try:
            for action in actions:
                observation = self._live[index].step(self._convert(action))[0]
            if len(actions):
                self._write(index, observation)
        except Exception:
            self.faults.append(Fault("raised", index, traceback.format_exc()))

    def close(self) -> None:
        """Closes every environment."""
        for env in self.envs:
            env.close()
