"""Compares an exported file with the agent that it came from."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.export.graph import Exportable
from retain.export.ports import Port
from retain.nn.encoders import ACTION_MASK
from retain.types import Carry

Run = Callable[..., list[NDArray[Any]]]
"""A loaded file: the outputs for the inputs, in the order of its metadata."""


class Acts(Exportable, Protocol):
    """An agent that a file is compared with."""

    def initial_carry(self, batch_size: int = 1) -> Carry:
        """The carry before an episode's first observation."""

    def act(
        self,
        obs: Any,
        carry: Carry | None = None,
        reset: Any = False,
        *,
        deterministic: bool = False,
        reward: Any = None,
    ) -> tuple[Any, Carry]:
        """One step."""


def largest_difference(
    agent: Acts,
    run: Run,
    inputs: Sequence[Port],
    *,
    steps: int = 200,
    rows: int = 2,
    reset_share: float = 0.05,
    seed: int = 0,
) -> float:
    """The largest difference between the file's and the agent's deterministic actions, each with a
    carry of its own, over random observations and resets.

    Args:
        run: the loaded file.
        inputs: its inputs.
        rows: environments at once.
        reset_share: share of the steps that begin an episode.
    """
    random = np.random.default_rng(seed)
    agent.observation_space.seed(seed)
    carry, ours = agent.initial_carry(rows), zeros(inputs, rows)
    reset, worst = np.ones(rows, dtype=np.bool_), 0.0
    for _ in range(steps):
        obs = random_obs(agent.observation_space, rows)
        reward = random.standard_normal(rows).astype(np.float32)
        wanted, carry = agent.act(obs, carry, reset, deterministic=True, reward=reward)
        given = arguments(inputs, obs, ours, reset, reward)
        action, *ours = run(*given)
        if action.dtype != wanted.dtype or action.shape != wanted.shape:
            return float("inf")
        gap = np.abs(action.astype(np.float64) - wanted.astype(np.float64))
        worst = max(worst, float(gap.max(initial=0.0)))
        reset = random.random(rows) < reset_share
    return worst


def zeros(inputs: Sequence[Port], rows: int) -> list[NDArray[Any]]:
    """A carry of zeros, which the reset of an episode's first step replaces."""
    return [port.example(rows).numpy() for port in inputs if port.name.startswith("carry_")]


def arguments(
    inputs: Sequence[Port],
    obs: Any,
    carry: Sequence[NDArray[Any]],
    reset: NDArray[np.bool_],
    reward: NDArray[Any],
) -> list[NDArray[Any]]:
    """The values of a step in the order of the inputs."""
    kept = iter(carry)
    given: list[NDArray[Any]] = []
    for port in inputs:
        if port.name.startswith("carry_"):
            given.append(next(kept))
        elif port.name.startswith("obs."):
            given.append(obs[port.name.removeprefix("obs.")])
        else:
            given.append({"obs": obs, "reset": reset, "reward": reward}[port.name])
    return given


def random_obs(space: gym.Space[Any], rows: int) -> Any:
    """A batch of observations from a space, of sizes that environments have."""
    if isinstance(space, gym.spaces.Dict):
        found = {key: random_obs(sub, rows) for key, sub in space.spaces.items()}
        if ACTION_MASK in found:
            found[ACTION_MASK][:, -1] = 1  # no row may forbid everything
        return found
    batch = np.stack([np.asarray(space.sample(), space.dtype) for _ in range(rows)])
    return batch.clip(-10, 10) if batch.dtype.kind == "f" else batch
