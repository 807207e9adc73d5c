"""A user's program, for mypy --strict: each ignored line is a mistake that the types must find.

If they did not find it, mypy would say that nothing had to be ignored.
"""

from typing import assert_type

import gymnasium as gym
import torch
from torch import Tensor

import retain
from retain.ops import gae


class Counter(retain.Callback):
    """Counts episodes, as far as the types know."""

    episodes = 0

    def on_episode(self, event: object) -> None:
        self.episodes += 1


class Last(retain.StepMemory[Tensor]):
    """Remembers the last input."""

    def __init__(self, features_in: int, *, hidden: int) -> None:
        super().__init__()
        self.features_in, self.features = features_in, features_in

    def initial_carry(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, self.features)

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        return carry, x


agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", num_envs=4)
assert_type(agent.learn(1000, callbacks=[Counter()]), retain.PPO)
assert_type(agent.evaluate(10).return_mean, float)
assert_type(retain.load("pole"), retain.Agent)
retain.SAC(lambda: gym.make("Pendulum-v1"), memory=Last)

retain.PPO("CartPole-v1", memry="lstm")  # type: ignore[call-arg]
retain.PPO("CartPole-v1", num_envs="four")  # type: ignore[arg-type]
retain.PPO("CartPole-v1", memory=dict)  # type: ignore[arg-type]
retain.PPO("CartPole-v1", activation="sine")  # type: ignore[arg-type]
agent.learn("1000")  # type: ignore[arg-type]
agent.learm(1000)  # type: ignore[attr-defined]
gae(reward=torch.zeros(2, 1))  # type: ignore[call-arg]
