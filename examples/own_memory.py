"""Your own memory: ten lines, trained by any algorithm, examined by the doctor.

python examples/own_memory.py            # trains on a pole whose velocities are hidden
"""

import math
import sys

import torch
from torch import Tensor, nn

import retain


@retain.register_memory("fading")
class Fading(retain.StepMemory[Tensor]):
    """Running means of the transformed input; each fades at its own rate, from `slowest` to 1."""

    def __init__(self, features_in: int, *, hidden: int, slowest: float = 0.02) -> None:
        super().__init__()
        self.features_in, self.features = features_in, hidden
        self.read = nn.Linear(features_in, hidden)
        self.register_buffer(
            "rate", torch.logspace(math.log10(slowest), 0, hidden), persistent=False
        )

    def initial_carry(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, self.features)

    def step(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        carry = torch.lerp(carry, torch.tanh(self.read(x)), self.rate)
        return carry, carry


def main(steps: int = 50_000) -> None:
    """Examines the memory alone, then trains PPO with it."""
    retain.doctor.check_memory(Fading(5, hidden=8))
    agent = retain.PPO("CartPoleNoVel-v1", memory=Fading, memory_options={"slowest": 0.05}, seed=1)
    agent.learn(steps)
    print(f"PPO with fading means: return {agent.evaluate(10).return_mean:.0f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
