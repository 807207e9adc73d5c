"""Small agents of every kind, with weights large enough for a memory to show in every action."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

import retain
from retain.memory import MEMORIES

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
BOX = spaces.Box(np.array([-2, -1], np.float32), np.array([2, 5], np.float32))
CHOICE = spaces.Discrete(4, start=2)
ROOM = spaces.Dict({
    "image": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "room": spaces.Discrete(5, start=1),
    "place": spaces.Box(-1, 1, (2,), np.float64),
    "action_mask": spaces.MultiBinary(4),
})  # fmt: skip


class Anything(gym.Env):
    """Random observations of one space, for any actions of another."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions

    def see(self):
        seen = self.observation_space.sample()
        if isinstance(seen, dict) and "action_mask" in seen:
            seen["action_mask"][-1] = 1
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.see(), {}

    def step(self, action):
        return self.see(), 0.0, False, False, {}


def make(algo, observations=VECTOR, actions=BOX, memory="lstm", **settings):
    """An agent with random weights of a trained agent's size."""
    small = {"num_envs": 2, "preset": "none", "hidden": (16,), "seed": 3}
    if memory != "none":
        small["memory"] = memory
    if memory != "none" and settings.get("summary") != "stack":
        small["memory_hidden"] = 8
    agent = getattr(retain, algo)(lambda: Anything(observations, actions), **small | settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    return agent


CELLS = {
    "a2c, box": ("A2C", {}),
    "a2c, previous action and reward": (
        "A2C",
        {"previous_action": True, "previous_reward": True, "reward_scale": 0.3, "reward_clip": 1.0},
    ),
    "vtrace, multi-discrete": (
        "VTrace",
        {"actions": spaces.MultiDiscrete([3, 4], start=[1, 0]), "previous_action": True},
    ),
    "ppo, multi-binary": ("PPO", {"actions": spaces.MultiBinary(3)}),
    "ppo, squashed": ("PPO", {"squash": True, "previous_action": True}),
    "ppo, scaled": ("PPO", {"scale_actions": True}),
    "ppo, state-dependent noise": ("PPO", {"use_sde": True}),
    "ppo, memory of the critic": ("PPO", {"separate_memory": True}),
    "ppo, dict with image and mask": (
        "PPO",
        {"observations": ROOM, "actions": CHOICE, "normalise_obs": True},
    ),
    "ppo, images": (
        "PPO",
        {"observations": spaces.Box(0, 255, (4, 42, 42), np.uint8), "encoder": "impala"},
    ),
    "ppo, discrete observations": ("PPO", {"observations": spaces.Discrete(6, start=1)}),
    "ppo, window of attention": ("PPO", {"memory": "window", "summary": "attention"}),
    "ppo, window of gru": ("PPO", {"memory": "window", "summary": "gru"}),
    "ppo, window stacked": ("PPO", {"memory": "window", "summary": "stack"}),
    "ppo, window of one": ("PPO", {"memory": "window", "window": 1}),
    "ppo, two layers": ("PPO", {"memory_layers": 2, "activation": "relu"}),
    "pqn, mask": ("PQN", {"observations": ROOM, "actions": CHOICE}),
    "dqn, mask": ("DQN", {"observations": ROOM, "actions": CHOICE}),
    "qrdqn": ("QRDQN", {"actions": CHOICE}),
    "ddpg": ("DDPG", {}),
    "td3": ("TD3", {}),
    "sac": ("SAC", {}),
    "sac, discrete": ("SAC", {"actions": CHOICE}),
    "tqc": ("TQC", {}),
}  # fmt: skip
"""Algorithms, spaces and settings, by name."""


def cell(name):
    """The agent of a cell."""
    algo, settings = CELLS[name]
    return make(algo, **settings)


__all__ = ["BOX", "CELLS", "CHOICE", "MEMORIES", "ROOM", "VECTOR", "cell", "make"]
