"""Tasks that no preset knows, for benchmarks/defaults.py: small, quick, each awkward in its way.

Importing this module registers them as `bench/NAME-v0` (`tasks:bench/PointMass-v0` as an id).
"""

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from retain.envs.options import EnvOptions
from retain.envs.wrappers import wrap

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


class Cue(gym.Env[Any, int]):
    """One of four cues is shown first, noise after that; the 20th action is to name it."""

    LENGTH = 20

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cue, self.clock = int(self.np_random.integers(4)), 0
        return self._obs(), {}

    def _obs(self) -> NDArray[np.float32]:
        seen = np.zeros(6, np.float32)
        if self.clock == 0:
            seen[self.cue] = 1.0
        seen[4], seen[5] = self.np_random.normal(), self.clock / self.LENGTH
        return seen

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        over = self.clock == self.LENGTH
        return self._obs(), float(over and action == self.cue), over, False, {}


class Catch(gym.Env[Any, int]):
    """A ball falls through an 8 x 8 image, moving sideways too; it is seen in the upper three rows
    only, and the paddle in the lowest row is to be below it in the end: 1, else -1."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.row, self.column = 0, int(self.np_random.integers(8))
        self.drift, self.paddle = (
            int(self.np_random.integers(-1, 2)),
            int(self.np_random.integers(8)),
        )
        return self._obs(), {}

    def _obs(self) -> NDArray[np.uint8]:
        image = np.zeros((8, 8, 1), np.uint8)
        if self.row < 3:
            image[self.row, self.column] = 255
        image[7, self.paddle] = 128
        return image

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.paddle = int(np.clip(self.paddle + action - 1, 0, 7))
        self.row, self.column = self.row + 1, (self.column + self.drift) % 8
        over = self.row == 7
        caught = 1.0 if self.paddle == self.column else -1.0
        return self._obs(), caught * over, over, False, {}


class Scaled(gym.Wrapper[Any, Any, Any, Any]):
    """Observations and rewards in other units."""

    def __init__(self, env: gym.Env[Any, Any], obs: float, reward: float) -> None:
        super().__init__(env)
        self.obs_scale, self.reward_scale = obs, reward
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, space.shape, np.float32)

    def _scaled(self, obs: Any) -> NDArray[np.float32]:
        return (np.asarray(obs) * self.obs_scale).astype(np.float32)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**options)
        return self._scaled(obs), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._scaled(obs), float(reward) * self.reward_scale, terminated, truncated, info


def wrapped(
    name: str, obs: float = 1.0, reward: float = 1.0, steps: int | None = None, **options: Any
) -> gym.Env[Any, Any]:
    """A known environment made unknown: `EnvOptions` around it, and other units."""
    import retain  # noqa: F401 (registers the environments)

    env = gym.make(name, max_episode_steps=steps, disable_env_checker=True)
    env = wrap(env, EnvOptions(**options))
    return env if obs == reward == 1.0 else Scaled(env, obs, reward)


def pop(name: str) -> gym.Env[Any, Any]:
    """One of POPGym's."""
    import memory_tasks  # noqa: F401 (registers them, although popgym.py lies beside this)

    return gym.make(name, disable_env_checker=True)


def _register(task: str, kind: Any, **settings: Any) -> None:
    gym.register(f"bench/{task}-v0", kind, kwargs=settings)


_register("PointMass", PointMass)
_register("PointMassDelayed", PointMass, observed="delayed")
_register("PointMassMap", PointMass, observed="delayed", image=True)
_register("PointMassUnits", PointMass, observed="delayed", reward_scale=1e3, obs_scale=100.0)
_register("PointMassFullMap", PointMass, image=True, reward_scale=1e-3)
_register("Cue", Cue)
_register("Catch", Catch)
_register("CartFlicker", wrapped, name="CartPole-v1", flicker=0.5)
_register("CartLong", wrapped, name="CartPole-v1", steps=1000, hide=(1, 3))
_register("AcrobotNoVel", wrapped, name="Acrobot-v1", hide=(4, 5))
_register("PendulumUnits", wrapped, name="Pendulum-v1", obs=100.0, reward=1e-3)
_register("PendulumNoise", wrapped, name="Pendulum-v1", hide=(2,), obs_noise=0.05)
_register("HopperNoVel", wrapped, name="Hopper-v5", hide=tuple(range(5, 11)))
_register("CheetahNoVel", wrapped, name="HalfCheetah-v5", hide=tuple(range(8, 17)))
_register("LanderNoVel", wrapped, name="LunarLanderContinuous-v3", hide=(2, 3, 5))
_register("PopRepeatFirst", pop, name="popgym-RepeatFirstEasy-v0")
