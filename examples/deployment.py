"""Deployment: a trained agent in your own loop, which keeps the carry.

python examples/deployment.py
"""

import sys
import tempfile
from pathlib import Path

import gymnasium as gym

import retain


def play(agent: retain.Agent, env: gym.Env, seed: int) -> float:
    """One episode. The carry is what the agent remembers: pass it from step to step, and
    start a new one with each episode."""
    obs, _ = env.reset(seed=seed)
    carry, reset, total, over = agent.initial_carry(), True, 0.0, False
    while not over:
        action, carry = agent.act(obs, carry, reset, deterministic=True)
        obs, reward, terminated, truncated, _ = env.step(action)
        total, reset, over = total + float(reward), False, terminated or truncated
    return total


def main(steps: int = 50_000) -> None:
    """Trains, saves, loads as another process would, and plays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pole"
        retain.PPO("CartPoleNoVel-v1", memory="lstm", seed=1).learn(steps).save(path)
        agent = retain.load(path)
    env = gym.make("CartPoleNoVel-v1")
    print("returns:", [play(agent, env, seed) for seed in range(5)])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
