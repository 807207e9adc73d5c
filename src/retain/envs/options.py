"""The settings of environments: where they run, and the wrappers around each of them."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from retain.errors import UsageError, check_range
from retain.settings import setting

WRAPPERS = ("frame_skip", "time_limit", "drop_obs", "hide", "obs_noise", "flicker",
            "sticky_actions", "mask_actions")  # fmt: skip
"""The options that put a wrapper around each environment."""


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """All the settings that making environments needs, except their id."""

    workers: int = 0
    """Worker processes that run the environments, in each shard; 0 steps them in the main
    process."""
    worker_engine: Literal["processes", "ray"] = setting("processes", needs="workers")
    """Where workers live: processes of this machine that share memory, or actors on any node of the
    Ray that RAY_ADDRESS names (docs/ray.md), for simulators that need more than one machine."""
    worker_cpus: float = setting(1.0, needs="ray_workers")
    """Ray: cores that each worker reserves."""
    env_groups: int = 1
    """On-policy: number of groups in each shard; the policy acts on one group while the others
    step."""
    worker_timeout: float = setting(60.0, needs="workers")
    """Seconds a worker may take for a step before it is replaced."""
    native: bool = True
    """Use the natively batched version of an environment where there is one (same numbers)."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for the environment's constructor, as in gymnasium.make: size=7, or JSON."""
    frame_skip: int = 1
    """Repeat each action this many times; rewards add up, and the last observation counts."""
    time_limit: int | None = None
    """Truncate episodes after this many steps, in addition to the environment's own limit."""
    drop_obs: tuple[str, ...] = ()
    """Entries of a Dict or Tuple observation to leave out, by name (entries of a Tuple are 0, 1,
    ...). Entries that no network can read, such as texts, are left out automatically."""
    hide: tuple[int, ...] = ()
    """Indices of the vector observation's entries to remove."""
    obs_noise: float = 0.0
    """Standard deviation of Gaussian noise on vector observations."""
    flicker: float = 0.0
    """Probability that an observation is blank (all zeros)."""
    sticky_actions: float = 0.0
    """Probability that the last action is repeated instead of the new one."""
    reward_scale: float = 1.0
    """Factor on the reward that the agent learns from; reported returns are not scaled."""
    reward_clip: float | None = None
    """Clip the reward that the agent learns from to [-c, c], after scaling; returns are not
    clipped."""
    frame_stack: int = setting(4, needs="atari")
    """Atari: number of recent frames in an observation."""
    episodic_life: bool = setting(False, needs="atari")
    """Atari: a lost life ends the learner's episode, but not the game; evaluation ignores this."""
    mask_actions: bool = False
    """Allow only the actions that `info["action_mask"]` marks with 1."""

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        check_range(self, "obs_noise", "worker_cpus", low=0)
        check_range(self, "workers", low=0, high=1024)
        check_range(self, "env_groups", "frame_skip", "frame_stack", "time_limit", low=1)
        check_range(self, "worker_timeout", "reward_clip", low=0, above=True)
        check_range(self, "flicker", "sticky_actions", low=0, high=1)
        try:
            json.dumps(self.env_kwargs)
        except TypeError as error:
            raise UsageError(
                f"env_kwargs cannot be written to config.json: {error} (expected JSON values; pass "
                "a callable that makes the environment instead)"
            ) from None

    @property
    def wrapped(self) -> bool:
        """Whether any wrapper goes around an environment."""
        return any(getattr(self, name) != getattr(PLAIN, name) for name in WRAPPERS)

    @property
    def shapes_reward(self) -> bool:
        """Whether `learned_reward` changes anything."""
        return self.reward_scale != 1.0 or self.reward_clip is not None

    def learned_reward(self, reward: NDArray[Any]) -> NDArray[Any]:
        """The rewards that the agent learns from, given the environments' own, `[B]`."""
        if self.reward_scale != 1.0:
            reward = reward * self.reward_scale
        if self.reward_clip is not None:
            reward = reward.clip(-self.reward_clip, self.reward_clip)
        return reward


PLAIN = EnvOptions()
BARE = {
    name: getattr(PLAIN, name) for name in (*WRAPPERS, "env_kwargs", "reward_scale", "reward_clip")
}
"""The option values that leave an environment and its rewards unchanged."""
