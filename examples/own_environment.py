"""Your own environment, an ordinary class of gymnasium.

The task: four signs in a row, and whoever has seen the first names it at the end.

python examples/own_environment.py       # or with the number of steps as its argument
"""

import sys
from typing import Any

import gymnasium as gym

import retain

SIGNS, LENGTH = 4, 4


class FirstSign(gym.Env[Any, Any]):
    """Nothing here depends on the library.

    All that is random comes from `self.np_random`, which `reset(seed=...)` makes: so an episode is
    its seed and its actions, and can be played again.
    """

    observation_space = gym.spaces.Discrete(SIGNS)
    action_space = gym.spaces.Discrete(SIGNS)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.signs = self.np_random.integers(SIGNS, size=LENGTH)
        self.t = 0
        return self.signs[0], {}

    def step(self, action: Any) -> Any:
        last = self.t == LENGTH - 1
        reward = float(last and action == self.signs[0])
        self.t = min(self.t + 1, LENGTH - 1)
        return self.signs[self.t], reward, last, False, {}


def main(steps: int = 30_000) -> None:
    """Trains in this process and in two others, and prints how often the agent is right."""
    settings: dict[str, Any] = {"memory": "gru", "learning_rate": 2e-3, "num_envs": 8, "seed": 1}
    for name, agent in {
        "in this process": retain.PPO(FirstSign, **settings),
        "in two processes": retain.PPO(FirstSign, workers=2, **settings),  # the same numbers
    }.items():
        agent.learn(steps)
        print(f"{name}: right in {agent.evaluate(100).return_mean:.0%} of the episodes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
