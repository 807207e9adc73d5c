"""The inputs and outputs of an exported policy: their names, shapes, dtypes and units."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from retain.nn.actions import ActionCoder
from retain.nn.noise import Kind

BATCH = "batch"
"""The first dimension of every input and output."""
RESET = "reset"
REWARD = "reward"
ACTION = "action"
NOISE_UNITS: dict[Kind, str] = {
    "normal": "standard normal numbers, new at every step",
    "uniform": "uniform numbers in [0, 1), new at every step",
}


@dataclass(frozen=True)
class Port:
    """An input or output of the graph.

    Args:
        shape: the shape without the batch.
        units: what the numbers mean.
        facts: what else is known: bounds, the initial value of a carry.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    units: str
    facts: dict[str, Any] = field(default_factory=dict)

    def example(self, size: int) -> Tensor:
        """`[size, ...]` values that are allowed: the lowest of integers, otherwise zeros."""
        rows = torch.zeros((size, *self.shape), dtype=self.dtype)
        if self.dtype.is_floating_point or self.facts.get("low") is None:
            return rows
        return rows + torch.tensor(self.facts["low"], dtype=self.dtype)

    def to_json(self) -> dict[str, Any]:
        """The port as the metadata describe it."""
        return {
            "name": self.name,
            "shape": [BATCH, *self.shape],
            "dtype": str(self.dtype).removeprefix("torch."),
            "units": self.units,
            **self.facts,
        }


def obs_ports(space: gym.Space[Any]) -> list[Port]:
    """The observation's inputs: `obs`, or `obs.KEY` for each entry of a Dict."""
    if isinstance(space, gym.spaces.Dict):
        return [_obs_port(f"obs.{key}", sub) for key, sub in space.spaces.items()]
    return [_obs_port("obs", space)]


def _obs_port(name: str, space: gym.Space[Any]) -> Port:
    units = "raw, as the environment gives them"
    return Port(name, space.shape or (), torch_dtype(space.dtype), units, bounds(space))


def torch_dtype(dtype: Any) -> torch.dtype:
    """The torch dtype of a numpy dtype."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def bounds(space: gym.Space[Any]) -> dict[str, Any]:
    """The lowest and the highest values of a space, each a number or a list for its entries; no
    entry where there is none."""
    spaces = gym.spaces
    if isinstance(space, spaces.Discrete):
        return {"low": int(space.start), "high": int(space.start + space.n - 1)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "low": space.start.tolist(),
            "high": (space.start + space.nvec - 1).tolist(),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"low": 0, "high": 1}
    if not isinstance(space, spaces.Box):
        return {}
    found = {name: _spread(getattr(space, name)) for name in ("low", "high")}
    return {name: value for name, value in found.items() if value is not None}


def _spread(values: Any) -> Any:
    """One number if all are equal, otherwise a nested list; None without any bound. A missing one
    among others is None."""
    array = np.asarray(values)
    finite = np.isfinite(array)
    if not finite.any():
        return None
    if (array == array.flat[0]).all():
        return array.flat[0].item()
    written = array.astype(object)
    written[~finite] = None
    return written.tolist()


def action_port(space: gym.Space[Any], coder: ActionCoder) -> Port:
    """The action's output, in the environment's own units."""
    units = "in the environment's units, within its bounds"
    return Port(ACTION, coder.event_shape, coder.env_dtype, units, bounds(space))


def carry_ports(leaves: Sequence[Tensor], action: Tensor | None) -> list[Port]:
    """The carry's inputs: what the memory keeps, and the previous action where one is read.

    Args:
        leaves: `[1, ...]` the memory's initial carry.
        action: `[1, ...]` a policy action.
    """
    units = ["what the memory keeps; hand it on unchanged"] * len(leaves)
    kept = list(leaves)
    if action is not None:
        kept.append(action)
        units.append("the previous action; hand it on unchanged")
    return [
        Port(
            f"carry_{number}", tuple(leaf.shape[1:]), leaf.dtype, text,
            {"initial": _spread(leaf[0].numpy(force=True))},
        )
        for number, (leaf, text) in enumerate(zip(kept, units, strict=True))
    ]  # fmt: skip


def next_carry_ports(carry: Sequence[Port]) -> list[Port]:
    """The outputs that are the carry's inputs at the next step."""
    return [
        Port(f"next_{one.name}", one.shape, one.dtype, f"{one.name} of the next step")
        for one in carry
    ]


def reset_port() -> Port:
    """The input that says where episodes begin."""
    return Port(RESET, (), torch.bool, "true where obs is the first of its episode")


def reward_port() -> Port:
    """The input of the previous reward, for a network that reads it."""
    units = "the environment's reward for the previous action; any number where reset"
    return Port(REWARD, (), torch.float32, units)


def noise_ports(shapes: Sequence[tuple[int, ...]], kinds: Sequence[Kind]) -> list[Port]:
    """The inputs of a stochastic policy's noise."""
    return [
        Port(f"noise_{number}", shape, torch.float32, NOISE_UNITS[kind], {"noise": kind})
        for number, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))
    ]
