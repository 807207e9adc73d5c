"""Mean return of uniformly random actions in the catalogue's environments, 200 episodes each.

python benchmarks/random_returns.py
"""

import gymnasium as gym
import numpy as np

import retain  # noqa: F401 (registers the environments)
from retain.envs.catalogue import CATALOGUE
from retain.envs.make import make_single
from retain.errors import UsageError

EPISODES = 200


def random_return(env: gym.Env) -> float:
    """The mean over episodes of known seeds."""
    env.action_space.seed(0)
    returns = []
    for seed in range(EPISODES):
        env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def main() -> None:
    for name, facts in CATALOGUE.items():
        try:
            env = make_single(name)
        except UsageError as error:
            print(f"{name:32} not measured: {error}")
            continue
        print(
            f"{name:32} {random_return(env):10.1f}   in the catalogue: {facts.random}", flush=True
        )


if __name__ == "__main__":
    main()
