"""A policy as one function of tensors: `(obs..., carry..., reset) -> (action, carry...)`.

It calls the same `act` as the agent: the training forward with T = 1.
"""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import torch
from torch import Generator, Tensor, nn

from retain.envs.options import EnvOptions
from retain.errors import UsageError
from retain.export.ports import (
    Port,
    action_port,
    carry_ports,
    next_carry_ports,
    noise_ports,
    obs_ports,
    reset_port,
    reward_port,
)
from retain.nn.encoders.image import ImageEncoder
from retain.nn.noise import Drawn, Recorder, Source
from retain.nn.policy import Policy
from retain.nn.torso import Torso
from retain.types import Carry, Obs, tree_leaves, tree_like

ROWS = 3
"""Rows of the example that is traced. A graph for any number of rows is not traced with one."""


class Exportable(Protocol):
    """The part of an agent that an export needs."""

    @property
    def policy(self) -> Policy:
        """The networks that act."""

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The space of one observation."""

    @property
    def action_space(self) -> gym.Space[Any]:
        """The space of one action."""

    @property
    def run_settings(self) -> EnvOptions:
        """The settings of environments, which shape the reward that a network reads."""

    def exploration(self) -> float:
        """How much sampled actions explore, in the sense of `Policy.act`."""

    def description(self) -> dict[str, Any]:
        """What a checkpoint says about the agent."""


class PolicyGraph(nn.Module):
    """A copy of a policy on the CPU, as a function of tensors `[B, ...]` for any B.

    The carry holds only what actions depend on: without the memory of a critic of its own, and
    without the previous action where the network does not read it. The copy computes in float32,
    also where training used bfloat16 for images.

    Args:
        agent: the trained agent.
        stochastic: sample actions as in training, from noise that is a further input.
    Raises:
        UsageError: the agent does not explore, so a stochastic policy would be the same.
    """

    inputs: list[Port]
    """In the order of the arguments: observation, carry, reset, previous reward, noise."""
    outputs: list[Port]
    """The action, and the next carry in the order of the inputs."""

    def __init__(self, agent: Exportable, *, stochastic: bool = False) -> None:
        super().__init__()
        self.policy = _portable(agent.policy)
        self.options = agent.run_settings
        self.scale = agent.exploration() if stochastic else 0.0
        if stochastic and not self.scale:
            raise UsageError("stochastic would change nothing: this agent does not explore")
        space, config = agent.observation_space, self.policy.config
        self.keys = [*space.spaces] if isinstance(space, gym.spaces.Dict) else None
        self.obs = obs_ports(space)
        self.carry = carry_ports(
            [leaf for leaf in self._leaves(1) if leaf.numel()],
            self._no_action(1) if config.reads_action else None,
        )
        self.reward = [reward_port()] if config.reads_reward else []
        self.noise: list[Port] = []
        self.has_time: list[bool] = []
        """Whether each noise has a dimension of time before that of the batch."""
        if stochastic:
            self._find_noise()
        self.inputs = [*self.obs, *self.carry, reset_port(), *self.reward, *self.noise]
        self.outputs = [
            action_port(agent.action_space, self.policy.coder), *next_carry_ports(self.carry)
        ]  # fmt: skip

    def example(self) -> tuple[Tensor, ...]:
        """Arguments of `ROWS` rows: the lowest observations, and zeros for the rest."""
        return tuple(port.example(ROWS) for port in self.inputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs `[B, ...]` for the inputs `[B, ...]`."""
        rest = iter(tensors)
        obs, carry = ([next(rest) for _ in ports] for ports in (self.obs, self.carry))
        reset = next(rest)
        reward, noise = ([next(rest) for _ in ports] for ports in (self.reward, self.noise))
        drawn = [x.unsqueeze(0) if t else x for x, t in zip(noise, self.has_time, strict=True)]
        return self._step(obs, carry, reset, reward, Drawn(drawn))

    def _step(
        self,
        obs: Sequence[Tensor],
        carry: Sequence[Tensor],
        reset: Tensor,
        reward: Sequence[Tensor],
        source: Source,
    ) -> tuple[Tensor, ...]:
        policy, size = self.policy, reset.shape[0]
        rows = [x.unsqueeze(0) for x in obs]
        whole: Obs = rows[0] if self.keys is None else dict(zip(self.keys, rows, strict=True))
        kept, given = self._leaves(size), iter(carry)
        mine = tree_like(self._mine(size), [next(given) if x.numel() else x for x in kept])
        before = list(policy.initial_carry(size))
        before[policy.acting] = mine
        previous: Any = [self.options.learned_reward(x) for x in reward]  # type: ignore[arg-type]
        action, after = policy.act(
            policy.prepare(whole),
            tuple(before),
            reset.unsqueeze(0),
            next(given, self._no_action(size)).unsqueeze(0),
            previous[0].unsqueeze(0) if previous else None,
            scale=self.scale,
            source=source,
        )
        leaves = [x for x in tree_leaves(after[policy.acting]) if x.numel()]
        if policy.config.reads_action:
            leaves.append(action)
        coder = policy.coder
        # Two outputs may not be one tensor.
        return coder.in_env(action).to(coder.env_dtype).clone(), *(x.clone() for x in leaves)

    def _mine(self, size: int) -> Carry:
        """The initial carry of the memory that actions come from."""
        return self.policy.initial_carry(size)[self.policy.acting]

    def _leaves(self, size: int) -> list[Tensor]:
        return tree_leaves(self._mine(size))

    def _no_action(self, size: int) -> Tensor:
        return torch.zeros((size, *self.policy.event_shape), dtype=self.policy.action_dtype)

    @torch.no_grad()
    def _find_noise(self) -> None:
        """The noise that a step draws becomes inputs."""
        recorder = Recorder(Generator().manual_seed(0))
        obs, carry, reward = (
            [port.example(ROWS) for port in ports] for ports in (self.obs, self.carry, self.reward)
        )
        self._step(obs, carry, torch.ones(ROWS, dtype=torch.bool), reward, recorder)
        self.has_time = [shape[0] == 1 for shape in recorder.shapes]
        pairs = zip(recorder.shapes, self.has_time, strict=True)
        self.noise = noise_ports([tuple(s[1 + timed :]) for s, timed in pairs], recorder.kinds)


def _portable(policy: Policy) -> Policy:
    """A copy that computes as every runtime can."""
    own = copy.deepcopy(policy).cpu().eval().requires_grad_(False)
    for part in own.modules():
        if isinstance(part, ImageEncoder):  # runtimes on a CPU have no convolution of bfloat16
            part.precision = torch.float32
        if isinstance(part, Torso):  # a compiled update's is an operation of this library
            vars(part).pop("unroll", None)
    for parameter in own.parameters():
        parameter.data = parameter.data.contiguous()
    return own
