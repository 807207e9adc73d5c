"""Acting into a replay, one step of every environment at a time."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.replay import Replay
from retain.data.stream import Stream, as_tensors
from retain.envs.contract import Backend
from retain.nn.off_policy import OffPolicyNets
from retain.types import tree_map


class Experience(Stream):
    """Steps B environments and writes the timeline into a replay."""

    def __init__(
        self,
        backend: Backend,
        nets: OffPolicyNets,
        replay: Replay,
        *,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(backend, nets, seed=seed, device=device)
        self.nets, self.replay = nets, replay

    def start(self) -> None:
        """Begins the first episode of every environment."""
        if self.obs is None:
            everywhere = np.ones(self.num_envs, dtype=np.bool_)
            self.obs = self.episodes.begin(everywhere)
            self.replay.begin(self.obs, everywhere)

    def step(self, *, scale: float, random: bool) -> None:
        """One step of every environment.

        Args:
            scale: of exploration.
            random: uniform actions instead; the memory reads along.
        """
        self.start()
        assert self.obs is not None
        with torch.inference_mode():
            self.replay.store_carry(self.carry)
            obs = tree_map(lambda x: x.unsqueeze(0), as_tensors(self.obs, self.device))
            action, self.carry = self.nets.act(
                self.nets.prepare(obs),
                self.carry,
                torch.from_numpy(self.reset_flags).to(self.device).unsqueeze(0),
                self.previous_action.unsqueeze(0),
                torch.from_numpy(self.previous_reward).to(self.device).unsqueeze(0),
                scale=scale,
                generator=self.generator,
            )
            if random:
                action = self.nets.actions.random(self.num_envs, self.generator)
            env_action = self.nets.actions.to_env(action)
        self.obs, reward, terminated, truncated = self.backend.step(env_action)
        self.replay.add(action, reward, terminated, truncated, self.obs)
        self.previous_action = action
        self.previous_reward = reward.astype(np.float32)
        self.episodes.record(env_action, reward)
        self.reset_flags = terminated | truncated
        self.steps += self.num_envs
        if self.reset_flags.any():
            self.episodes.finish(self.reset_flags)
            self.obs = self.episodes.begin(self.reset_flags)
            self.replay.begin(self.obs, self.reset_flags)

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> NDArray[np.bool_]:
        """See `Stream.restore`; an episode that could not be replayed ends in the replay too."""
        differs = super().restore(tensors, facts)
        if differs.any():
            assert self.obs is not None
            self.replay.begin(self.obs, differs)
        return differs
