"""Acting: the policy and the environments, one explicit step at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.data.rollout import Rollout
from retain.data.stream import Stream, as_tensors, observation_rows
from retain.envs.contract import Backend, ObsArray
from retain.nn.policy import ActorCritic
from retain.types import Carry, Obs, tree_map


class Columns(NamedTuple):
    """What the environments say in a segment, filled in place a row a step."""

    obs: ObsArray
    reward: NDArray[np.float32]
    reset: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


def split_steps(obs: Obs) -> Sequence[Obs]:
    """`[T, B, ...]` as T views `[1, B, ...]`."""
    if isinstance(obs, dict):
        columns = {key: torch.tensor_split(x, len(x)) for key, x in obs.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return torch.tensor_split(obs, len(obs))


class Collector(Stream):
    """Steps B environments with a policy and cuts the stream into segments.

    Args:
        chunk: steps between stored carries; must divide every segment's length.
    """

    def __init__(
        self,
        backend: Backend,
        policy: ActorCritic,
        *,
        seed: int,
        chunk: int,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(backend, policy, seed=seed, device=device)
        self.policy, self.chunk = policy, chunk

    def collect(self, num_steps: int) -> Rollout:
        """The next segment: `num_steps` steps of every environment, `[T, B, ...]`."""
        self.start()
        T, B, policy = num_steps, self.num_envs, self.policy
        space = self.backend.observation_space
        columns = Columns(
            observation_rows(space, (T, B)),
            np.zeros((T, B), np.float32),
            *(np.zeros((T, B), np.bool_) for _ in range(3)),
        )
        obs_rows = as_tensors(columns.obs, torch.device("cpu"))
        reset_rows = torch.from_numpy(columns.reset)
        each_obs, each_reset = split_steps(obs_rows), torch.tensor_split(reset_rows, T)
        actions, dists, values = [], [], []
        carries: list[Carry] = []
        previous_actions, previous_rewards = [], []
        final_values: list[tuple[int, NDArray[np.intp], Tensor]] = []
        sde_every, exploration = policy.config.sde_sample_freq, None
        reads_action, reads_reward = policy.config.previous_action, policy.config.previous_reward

        with torch.inference_mode():
            for t in range(T):
                self._write_obs(columns.obs, t)
                columns.reset[t] = self.reset_flags
                if t % self.chunk == 0:
                    carries.append(self.carry)
                if t == 0 or (sde_every > 0 and t % sde_every == 0):
                    exploration = policy.head.draw_exploration(B, self.generator)
                if reads_action:
                    previous_actions.append(self.previous_action)
                if reads_reward:
                    previous_rewards.append(torch.from_numpy(self.previous_reward))
                dist, value, self.carry = self._forward(each_obs[t], each_reset[t])
                action = policy.head.sample(dist, exploration, self.generator)
                dists.append(dist)
                values.append(value)
                actions.append(action)
                action = action[0]
                env_action = policy.head.to_env(action)
                self.obs, reward, terminated, truncated = self.backend.step(env_action)
                columns.reward[t], columns.terminated[t] = reward, terminated
                columns.truncated[t] = truncated
                ended = terminated | truncated
                self.previous_action = action
                self.previous_reward = columns.reward[t]
                self.episodes.record(env_action, reward)
                if ended.any():
                    cut = truncated & ~terminated
                    if cut.any():
                        rows = np.flatnonzero(cut)
                        final_values.append((t, rows, self._successor_value(rows)))
                    self.episodes.finish(ended)
                    self.obs = self.episodes.begin(ended)
                self.reset_flags = ended
            self.steps += T * B
            last_value = self._last_value()
            action = torch.cat(actions)
            log_prob = type(dists[0]).cat(dists).log_prob(action)

        value = torch.cat(values)
        next_value = torch.cat((value[1:], last_value.clone()))
        for t, rows, final_value in final_values:
            next_value[t, torch.from_numpy(rows)] = final_value.clone()

        def finished(x: Tensor) -> Tensor:
            return x.to(self.device)

        return Rollout(
            obs=tree_map(finished, obs_rows),
            action=action.clone(),
            log_prob=log_prob.clone(),
            value=value,
            reward=finished(torch.from_numpy(columns.reward)),
            reset=finished(reset_rows),
            terminated=finished(torch.from_numpy(columns.terminated)),
            truncated=finished(torch.from_numpy(columns.truncated)),
            next_value=next_value,
            carries=tuple(tree_map(torch.clone, carry) for carry in carries),
            carry_out=tree_map(torch.clone, self.carry),
            previous_action=torch.stack(previous_actions) if reads_action else None,
            previous_reward=finished(torch.stack(previous_rewards)) if reads_reward else None,
        )

    def _write_obs(self, rows: ObsArray, t: int) -> None:
        if isinstance(rows, dict):
            for key, row in rows.items():
                row[t] = self.obs[key]  # type: ignore[index]
        else:
            rows[t] = self.obs

    def _forward(self, obs: Obs, reset: Tensor) -> Any:
        """The policy's forward with T = 1 on the current carry."""
        previous: list[Tensor] = []
        config = self.policy.config
        if config.previous_action or config.previous_reward:
            previous = [
                self.previous_action.unsqueeze(0),
                torch.from_numpy(self.previous_reward).to(self.device).unsqueeze(0),
            ]
        if self.device.type != "cpu":
            obs = tree_map(lambda x: x.to(self.device), obs)
            reset = reset.to(self.device)
        return self.policy(self.policy.prepare(obs), self.carry, reset, *previous)

    def _successor_value(self, rows: NDArray[np.intp]) -> Tensor:
        """V of the final observations of cut episodes, `[rows]`, under the carry before any reset.

        The whole batch is evaluated, so that a row's value never depends on which others ended.
        """
        _, value, _ = self._forward(
            tree_map(lambda x: torch.from_numpy(x).unsqueeze(0), self.obs),  # type: ignore[arg-type]
            torch.zeros(1, self.num_envs, dtype=torch.bool),
        )
        result: Tensor = value[0, torch.from_numpy(rows)]
        return result

    def _last_value(self) -> Tensor:
        """V of the observation after the segment, `[1, B]`; the carry does not advance."""
        _, value, _ = self._forward(
            tree_map(lambda x: torch.from_numpy(x).unsqueeze(0), self.obs),  # type: ignore[arg-type]
            torch.from_numpy(self.reset_flags).unsqueeze(0),
        )
        result: Tensor = value
        return result
