"""Acting: one step of the training forward, with a carry that the caller keeps."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.stream import as_tensors
from retain.errors import UsageError
from retain.nn.policy import Policy
from retain.nn.torso import NetworkConfig
from retain.train.config import RunConfig
from retain.train.files import make_folder
from retain.train.misuse import explained
from retain.train.observations import batched
from retain.types import Carry, tree_leaves, tree_map

if TYPE_CHECKING:
    from retain.export import Exported, Format

State: TypeAlias = tuple[NDArray[Any], ...]
"""A carry in the form of `predict`: its leaves, as arrays."""


class Acting(ABC):
    """The acting part of an agent: a policy, its carry from step to step, and its sampling
    noise."""

    policy: Policy
    config: NetworkConfig
    run_settings: RunConfig
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    device: torch.device
    act_generator: torch.Generator
    """The generator of sampled actions."""

    @abstractmethod
    def exploration(self) -> float:
        """How much sampled actions explore, in the sense of `Policy.act`."""

    @contextmanager
    def noise_of(self, seed: int) -> Iterator[None]:
        """Inside the block, `act` draws its noise from this seed; afterwards, from its own
        generator again."""
        before = self.act_generator.get_state()
        self.act_generator.manual_seed(seed)
        try:
            yield
        finally:
            self.act_generator.set_state(before)

    def initial_carry(self, batch_size: int = 1) -> Carry:
        """The carry before an episode's first observation; keep it and pass it to `act`."""
        return (
            tree_map(lambda x: x.to(self.device), self.policy.initial_carry(batch_size)),
            torch.zeros(
                (batch_size, *self.policy.event_shape),
                dtype=self.policy.action_dtype,
                device=self.device,
            ),
        )

    @explained("action, carry = agent.act(obs, carry, reset)")
    def act(
        self,
        obs: Any,
        carry: Carry | None = None,
        reset: bool | NDArray[np.bool_] = False,
        *,
        deterministic: bool = False,
        reward: float | NDArray[Any] | None = None,
    ) -> tuple[Any, Carry]:
        """One step: the training forward with T = 1.

        Args:
            obs: one observation, or a batch `[B, ...]`, in the environment's format.
            carry: the carry that the last call returned; None starts an episode.
            reset: true, or `[B]` true, where obs is the first of its episode.
            deterministic: take the most probable action instead of a sample.
            reward: reward of the previous step; needed only by networks that read it.
        Returns:
            action(s) in the environment's format, and the next carry.
        Raises:
            UsageError: an observation, carry, reset or reward does not fit, or is NaN.
        """
        rows, size, single = batched(self.observation_space, obs)
        if carry is None:
            carry, reset = self.initial_carry(size), True
        before, action = self._checked(carry, size)
        flags = torch.from_numpy(_each(reset, size, np.bool_, "reset"))
        with torch.inference_mode():
            prepared = self.policy.prepare(
                tree_map(lambda x: x.unsqueeze(0), as_tensors(rows, self.device))
            )
            action, after = self.policy.act(
                prepared,
                before,
                flags.to(self.device).unsqueeze(0),
                action.unsqueeze(0),
                self._previous_reward(reward, flags),
                scale=0.0 if deterministic else self.exploration(),
                source=self.act_generator,
            )
            env_action = self.policy.coder.to_env(action)
        return (env_action[0] if single else env_action), (after, action)

    @explained('agent.export("policy.onnx")')
    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: "Format | None" = None,
        stochastic: bool = False,
    ) -> "Exported":
        """Writes the policy as one file that runs without this library, the carry as an input and
        an output (docs/deployment.md).

        Args:
            path: the file; an .onnx or .pt2 ending decides the format if none is given.
            format: "onnx" for onnxruntime, or "torch" for torch.export.
            stochastic: sample actions as in training; the noise is a further input.
        Returns:
            the file's path, inputs, outputs and metadata.
        Raises:
            UsageError: the format is unknown or does not fit the file's name, a part of the policy
                cannot be exported (the line names it), or an extra is not installed.
        """
        from retain.export import export

        make_folder(Path(path).parent)
        return export(self, path, format=format, stochastic=stochastic)

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The JSON description of the agent."""

    def _checked(self, carry: Carry, size: int) -> tuple[Carry, Tensor]:
        """The policy's carry and the previous action, for `size` environments.

        Raises:
            UsageError: the carry belongs to another agent or another number of environments.
        """
        wanted = self.initial_carry(1)
        difference = _difference(carry, wanted)
        if difference:
            raise UsageError(
                f"the carry is not this agent's: {difference}; start with initial_carry({size})"
            )
        batch = {len(leaf) for leaf in tree_leaves(carry)}
        if batch != {size}:
            found = ", ".join(map(str, sorted(batch)))
            raise UsageError(
                f"the carry is for {found} environments, but obs holds {size}: start with "
                f"initial_carry({size})"
            )
        assert isinstance(carry, tuple)
        assert isinstance(carry[1], Tensor)
        return carry[0], carry[1]

    def _previous_reward(self, reward: float | NDArray[Any] | None, first: Tensor) -> Tensor | None:
        """`[1, B]` the previous reward, shaped as in training; None if nothing reads it.

        Args:
            first: `[B]` true where an episode begins and there is no previous reward.
        """
        size = len(first)
        if reward is not None:
            given = _each(reward, size, np.float64, "reward")
            learned = self.run_settings.learned_reward(given).astype(np.float32)
            return torch.from_numpy(learned).to(self.device).unsqueeze(0)
        if not self.config.reads_reward:
            return None
        if not bool(first.all()):
            raise UsageError("this agent reads the previous reward: pass act(..., reward=...)")
        return torch.zeros((1, size), device=self.device)

    @explained("action, state = agent.predict(observation, state, episode_start)")
    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, State | None]:
        """`act` with the signature of Stable-Baselines3's `predict`.

        Args:
            state: the state that the last call returned; None starts episodes.
            episode_start: `[B]` true where an episode begins; the state is cleared there.
        Returns:
            actions, and the next state as a tuple of arrays (None without memory).
        Raises:
            UsageError: an argument does not fit.
        """
        _, size, _ = batched(self.observation_space, observation)
        carry = self.initial_carry(size)
        starts: Any = state is None
        if state is not None:
            leaves = tree_leaves(carry)
            if not isinstance(state, tuple) or len(state) != len(leaves):
                found = f"{len(state)} arrays" if isinstance(state, tuple) else type(state).__name__
                raise UsageError(
                    f"the state is {found} (expected the {len(leaves)} arrays that predict "
                    "returned, or None to start episodes)"
                )
            arrays = iter(state)
            carry = tree_map(lambda _: torch.as_tensor(next(arrays)).to(self.device), carry)
            starts = False if episode_start is None else episode_start
        action, carry = self.act(observation, carry, starts, deterministic=deterministic)
        if not (self.policy.recurrent or self.config.reads_action):
            return action, None
        return action, tuple(leaf.cpu().numpy() for leaf in tree_leaves(carry))


def _each(given: Any, size: int, kind: type[np.generic], name: str) -> NDArray[Any]:
    """One value for each of `size` environments, `[B]`.

    Raises:
        UsageError: the argument is neither one value nor `size` of them, or a reward is not finite.
    """
    try:
        array = np.asarray(given).astype(
            kind, casting="same_kind" if kind is np.bool_ else "unsafe"
        )
        spread = np.broadcast_to(array, size).copy()
    except (TypeError, ValueError):
        shown = f"of shape {np.shape(given)}" if np.ndim(given) else repr(given)
        what = "true or false" if kind is np.bool_ else "a number"
        raise UsageError(f"{name} is {shown} (expected {what}, or {size} of them)") from None
    if not np.isfinite(spread).all():
        raise UsageError(f"{name} is {given} (expected finite numbers)")
    return spread


def _difference(carry: Any, wanted: Any, place: str = "carry") -> str:
    """The first difference between a carry's structure and the expected one; empty if none."""
    if isinstance(wanted, tuple):
        if not isinstance(carry, tuple):
            return f"{place} is {type(carry).__name__} (expected a tuple of {len(wanted)})"
        if len(carry) != len(wanted):
            return f"{place} has {len(carry)} parts (expected {len(wanted)})"
        found = (
            _difference(c, w, f"{place}[{i}]")
            for i, (c, w) in enumerate(zip(carry, wanted, strict=True))
        )
        return next((text for text in found if text), "")
    if not isinstance(carry, Tensor):
        return f"{place} is {type(carry).__name__} (expected a tensor)"
    if carry.shape[1:] != wanted.shape[1:] or carry.dtype != wanted.dtype or not carry.dim():
        return f"{place} is {_kind(carry)} (expected {_kind(wanted).replace('[1', '[B', 1)})"
    return ""


def _kind(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
