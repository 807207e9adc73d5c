"""Tasks that no preset knows, for benchmarks/defaults.py: small, quick, each awkward in its way.

Importing this module registers them as `bench/NAME-v0` (`tasks:bench/PointMass-v0` as an id).
"""

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

DT, GRAVITY, DRAG, WALL = 0.05, 0.5, 0.1, 1.5


class PointMass(gym.Env[Any, NDArray[np.float32]]):
    """A point with mass under gravity is to reach a random goal and stay, in 200 steps.

    Reward of a step: minus the distance to the goal, plus 0.25 within 0.25 of it. Thrust is
    [-0.5, 2] upwards and [-1, 1] sideways.

    Args:
        observed: "full": position, velocity and goal. "delayed": the position of two steps ago
            with noise of 0.02, and the goal; velocity is hidden.
        image: show the goal on an 8 x 8 uint8 map instead of in the vector, the position on both.
        reward_scale: the reward is times this.
        obs_scale: the vector is times this.
    """

    def __init__(
        self,
        observed: str = "full",
        image: bool = False,
        reward_scale: float = 1.0,
        obs_scale: float = 1.0,
    ) -> None:
        self.observed, self.image = observed, image
        self.reward_scale, self.obs_scale = reward_scale, obs_scale
        width = (6 if observed == "full" else 4) - 2 * image
        vector = gym.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.observation_space: gym.Space[Any] = vector
        if image:
            pixels = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)
            self.observation_space = gym.spaces.Dict(vector=vector, map=pixels)
        self.action_space = gym.spaces.Box(
            np.array([-1.0, -0.5], np.float32), np.array([1.0, 2.0], np.float32)
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1.0, 1.0, 2)
        self.velocity = np.zeros(2)
        self.goal = self.np_random.uniform(-1.0, 1.0, 2)
        self.seen = deque([self.position] * 3, maxlen=3)
        self.clock = 0
        return self._obs(), {}

    def _obs(self) -> Any:
        if self.observed == "full":
            parts = (self.position, self.velocity, self.goal)
        else:
            parts = (self.seen[0] + self.np_random.normal(0.0, 0.02, 2), self.goal)
        vector = (np.concatenate(parts[: -1 if self.image else None]) * self.obs_scale).astype(
            np.float32
        )
        if not self.image:
            return vector
        pixels = np.zeros((8, 8, 1), np.uint8)
        for point, brightness in ((self.goal, 128), (parts[0], 255)):
            cell = np.clip((point + WALL) / (2 * WALL) * 8, 0, 7).astype(int)
            pixels[cell[1], cell[0]] = brightness
        return {"vector": vector, "map": pixels}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        force = np.asarray(action, np.float64) - (0.0, GRAVITY)
        self.velocity = self.velocity + DT * (force - DRAG * self.velocity)
        self.position = self.position + DT * self.velocity
        hit = np.abs(self.position) > WALL
        self.velocity[hit] = 0.0
        self.position = np.clip(self.position, -WALL, WALL)
        self.seen.append(self.position)
        self.clock += 1
        distance = float(np.linalg.norm(self.position - self.goal))
        reward = (0.25 if distance < 0.25 else 0.0) - distance
        return self._obs(), reward * self.reward_scale, False, self.clock >= 200, {}


def _register(name: str, kind: type[gym.Env[Any, Any]], **settings: Any) -> None:
    gym.register(f"bench/{name}-v0", kind, kwargs=settings)


_register("PointMass", PointMass)
_register("PointMassDelayed", PointMass, observed="delayed")
_register("PointMassMap", PointMass, observed="delayed", image=True)
