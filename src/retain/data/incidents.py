"""Faults in a run's environments, with the data to play them back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.data.episodes import Episodes
from retain.envs.contract import Backend, Fault

PATIENCE = 3
"""Number of consecutive episodes in one environment that may end in an exception or an unusable
response before the run stops."""


@dataclass(frozen=True)
class Incident:
    """A fault, and the episode in which it happened."""

    fault: Fault
    env_index: int
    """The run's number of the environment; -1 if the fault belongs to a worker."""
    episode: int
    seed: int
    actions: list[Any]
    """The episode's actions until the fault, including the last one."""

    def line(self) -> str:
        """The incident as a line for the terminal."""
        if self.env_index < 0:
            return f"{self.fault.kind}: {self.fault.text}"
        last = self.fault.text.strip().splitlines()[-1]
        return (
            f"{self.fault.kind}: environment {self.env_index}, episode {self.episode} "
            f"(seed {self.seed}), step {len(self.actions)}: {last}"
        )

    def report(self) -> dict[str, Any]:
        """The incident as JSON."""
        return {
            "kind": self.fault.kind,
            "env_index": self.env_index,
            "episode": self.episode,
            "seed": self.seed,
            "actions": [np.asarray(action).tolist() for action in self.actions],
            "traceback": self.fault.text,
        }


class Incidents:
    """The incidents of a run."""

    def __init__(self) -> None:
        self._found: list[Incident] = []
        self._raising: dict[int, int] = {}
        self._raised: set[int] = set()
        self.fatal: Incident | None = None
        """The incident that was one too many, if any."""

    def note(self, backend: Backend, episodes: Episodes) -> None:
        """Takes over a backend's faults."""
        for fault in backend.faults:
            if fault.index < 0:
                self._found.append(Incident(fault, -1, -1, -1, []))
                continue
            env = int(episodes.index[fault.index])
            incident = Incident(
                fault, env, int(episodes.number[fault.index]),
                int(backend.history.seeds[fault.index]), backend.history.actions_of(fault.index),
            )  # fmt: skip
            self._found.append(incident)
            if fault.kind in ("raised", "unusable") and env not in self._raised:
                self._raised.add(env)
                self._raising[env] = self._raising.get(env, 0) + 1
                if self._raising[env] >= PATIENCE and self.fatal is None:
                    self.fatal = incident
        backend.faults.clear()

    def ended(self, envs: NDArray[np.int64]) -> None:
        """Notes that these environments' current episodes are over."""
        for env in envs.tolist() if self._raising else ():
            if env not in self._raised:
                self._raising.pop(env, None)
            self._raised.discard(env)

    def add(self, incidents: list[Incident]) -> None:
        """Adds incidents that happened on other ranks."""
        self._found += incidents

    def take(self) -> list[Incident]:
        """The incidents since the last call."""
        found, self._found = self._found, []
        return found
