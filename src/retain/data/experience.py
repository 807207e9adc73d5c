"""Acts into a replay, one step of every environment at a time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.replay import Replay
from retain.data.stream import Driver, as_tensors
from retain.envs.contract import Backend
from retain.envs.options import PLAIN, EnvOptions
from retain.nn.q_networks import OffPolicyNets
from retain.types import Obs, tree_map, under_prefix


class Experience(Driver):
    """Steps B environments, one group, and writes the timeline into a replay."""

    def __init__(
        self,
        backend: Backend,
        nets: OffPolicyNets,
        replay: Replay,
        *,
        seed: int,
        options: EnvOptions = PLAIN,
        device: torch.device | None = None,
    ) -> None:
        super().__init__([backend], nets, seed=seed, options=options, device=device)
        self.nets, self.replay = nets, replay
        self.stream = self.streams[0]

    def step(self, *, scale: float, random: bool) -> None:
        """Takes one step in every environment.

        Args:
            scale: amount of exploration; see `Policy.act`.
            random: take uniform actions instead; the memory still reads the observations.
        """
        stream = self.stream
        if stream.start():
            assert stream.obs is not None
            self.replay.begin(stream.obs, np.ones(self.num_envs, dtype=np.bool_))
        assert stream.obs is not None
        with torch.inference_mode():
            self.replay.store_carry(stream.carry)
            obs = tree_map(lambda x: x.unsqueeze(0), as_tensors(stream.obs, self.device))
            prepared = self.nets.prepare(obs)
            action, stream.carry = self.nets.act(
                prepared,
                stream.carry,
                torch.from_numpy(stream.reset_flags).to(self.device).unsqueeze(0),
                stream.previous_action.unsqueeze(0),
                torch.from_numpy(stream.previous_reward).to(self.device).unsqueeze(0),
                scale=scale,
                source=self.generator,
            )
            if random:
                action = self.nets.random(prepared, self.generator)
            env_action = self.nets.coder.to_env(action)
        stream.backend.send(env_action)
        stream.obs, reward, terminated, truncated = stream.receive()
        self.replay.add(action, reward, terminated, truncated, stream.obs)
        stream.previous_action = action
        stream.previous_reward = reward.astype(np.float32)
        stream.reset_flags = terminated | truncated
        self.steps += self.num_envs
        if stream.reset_flags.any():
            stream.restart(stream.reset_flags)
            self.replay.begin(stream.obs, stream.reset_flags)

    def as_step(self, columns: dict[str, Tensor]) -> Obs:
        """The observations among a replay's columns, as one step of many environments."""
        columns = under_prefix("obs.", columns)
        obs = {key: x.unsqueeze(0).to(self.device) for key, x in columns.items()}
        return obs[""] if list(obs) == [""] else obs

    def _cut(self, differs: NDArray[np.bool_]) -> None:
        """Ends these episodes in the replay too."""
        if differs.any():
            assert self.stream.obs is not None
            self.replay.begin(self.stream.obs, differs)
