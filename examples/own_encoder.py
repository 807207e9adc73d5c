"""Your own encoder: a class that maps an observation space to features.

python examples/own_encoder.py
"""

import sys

import gymnasium as gym
import torch
from torch import Tensor, nn

import retain


@retain.register_encoder("waves")
class Waves(retain.nn.Encoder):
    """Encodes a vector as sines with learned frequencies."""

    def __init__(self, space: gym.spaces.Box, activation: str = "tanh") -> None:
        super().__init__()
        self.features = 32
        self.read = nn.Linear(space.shape[0], self.features)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.sin(self.read(obs.float()))


def main(steps: int = 30_000) -> None:
    """Examines the encoder alone, then trains with it."""
    space = gym.make("CartPole-v1").observation_space
    retain.doctor.check_encoder(Waves(space), space)
    agent = retain.PPO("CartPole-v1", encoder=Waves, seed=1)
    agent.learn(steps)
    print(f"PPO on waves: return {agent.evaluate(10).return_mean:.0f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
