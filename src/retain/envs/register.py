"""Registers this library's environments with gymnasium; `import retain` does it.

Without that import, `gymnasium.make("retain:CartPoleNoVel-v1")` works as well.
"""

from typing import Any

import gymnasium as gym

from retain.envs.native import NATIVE, OURS

# Kept entries of the observation; the time limit is the original's.
HIDDEN_VELOCITY: dict[str, tuple[str, tuple[int, ...]]] = {
    "CartPoleNoVel-v1": ("CartPole-v1", (0, 2)),
    "PendulumNoVel-v1": ("Pendulum-v1", (0, 1)),
    "MountainCarContinuousNoVel-v0": ("MountainCarContinuous-v0", (0,)),
    "LunarLanderNoVel-v3": ("LunarLander-v3", (0, 1, 4, 6, 7)),
}


def make_without_velocity(original: str, indices: tuple[int, ...], **kwargs: Any) -> Any:
    """The original environment, with its time limit, showing only some entries."""
    from retain.envs.wrappers import KeepEntries

    return KeepEntries(gym.make(original, disable_env_checker=True, **kwargs), indices)


def register_envs() -> None:
    """Adds the ids to gymnasium's registry; a second call changes nothing."""
    for new, (original, indices) in HIDDEN_VELOCITY.items():
        if new not in gym.registry:
            gym.register(
                id=new,
                entry_point="retain.envs.register:make_without_velocity",
                kwargs={"original": original, "indices": indices},
                order_enforce=False,
                disable_env_checker=True,
            )
    for name in NATIVE:
        for new in (f"retain/{name}", *([name] if name in OURS else [])):
            if new not in gym.registry:
                gym.register(
                    id=new,
                    entry_point="retain.envs.single:Single",
                    kwargs={"name": name},
                    disable_env_checker=True,
                )
