"""Off-policy agents as people use them: the same API as PPO's."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import retain
from retain.errors import CheckpointError

SMALL = {"learning_starts": 50, "num_steps": 50, "batch_size": 32, "hidden": (16,), "window": 4,
         "memory_hidden": 8, "buffer_size": 1000, "sequence_length": 8, "update_ratio": 0.5}  # fmt: skip
CASES = [("DDPG", "PendulumNoVel-v1", "window"), ("TD3", "PendulumNoVel-v1", "lstm"),
         ("SAC", "Pendulum-v1", "none"), ("SAC", "CartPoleNoVel-v1", "gru"),
         ("DQN", "CartPoleNoVel-v1", "lstm")]  # fmt: skip


def make(algo, env, memory, **changes):
    kind = getattr(retain, algo)
    return kind(env, **kind.useful(SMALL | {"seed": 2, "memory": memory} | changes))


def same(one, two):
    return all(torch.equal(a, b) for a, b in
               zip(one.policy.state_dict().values(), two.policy.state_dict().values(), strict=True))  # fmt: skip


@pytest.mark.parametrize(("algo", "env", "memory"), CASES)
def test_learn_act_save_load_and_evaluate(algo, env, memory, tmp_path):
    agent = make(algo, env, memory).learn(150)
    agent.save(tmp_path / "agent")
    again = retain.load(tmp_path / "agent")
    assert same(agent, again)
    assert type(again) is type(agent)
    assert again.evaluate(3, seed=5) == agent.evaluate(3, seed=5)
    obs = np.stack([agent.observation_space.sample() for _ in range(4)])
    carry, other = agent.initial_carry(4), again.initial_carry(4)
    for reset in (True, False, np.array([False, True, False, False])):
        action, carry = agent.act(obs, carry, reset, deterministic=True, reward=1.0)
        twin, other = again.act(obs, other, reset, deterministic=True, reward=1.0)
        assert np.array_equal(action, twin)
        assert all(agent.action_space.contains(one) for one in action)


@pytest.mark.parametrize(("algo", "env", "memory"), CASES)
def test_a_run_is_the_same_twice_and_on_either_backend(algo, env, memory):
    one = make(algo, env, memory, num_envs=2).learn(200)
    two = make(algo, env, memory, num_envs=2).learn(200)
    gymnasium = make(algo, env, memory, num_envs=2, native=False).learn(200)
    assert same(one, two)
    assert same(one, gymnasium)
    assert not same(one, make(algo, env, memory, num_envs=2, seed=7).learn(200))


@pytest.mark.parametrize(("algo", "env", "memory"), CASES)
def test_evaluation_leaves_training_untouched(algo, env, memory):
    one, two = make(algo, env, memory), make(algo, env, memory)
    for _ in range(2):
        one.learn(100)
        one.evaluate(2)
        two.learn(100)
    assert same(one, two)


def test_stable_baselines3_evaluates_them_unchanged():
    agent = make("DQN", "CartPoleNoVel-v1", "lstm", previous_reward=False).learn(100)
    for env in (gym.make("CartPoleNoVel-v1"), make_vec_env("CartPoleNoVel-v1", n_envs=3, seed=0)):
        mean, _ = evaluate_policy(agent, env, n_eval_episodes=4, warn=False)
        assert 8 <= mean <= 500


class Seen(gym.Env):
    """An image and a number; the reward is the action that the number names."""

    observation_space = gym.spaces.Dict({"image": gym.spaces.Box(0, 255, (36, 36, 1), np.uint8),
                                         "count": gym.spaces.Discrete(3)})  # fmt: skip
    action_space = gym.spaces.Discrete(3)

    def _obs(self):
        self.count = int(self.np_random.integers(3))
        return {"image": np.full((36, 36, 1), 50 * self.t, np.uint8), "count": self.count}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        reward = float(action == self.count)
        self.t += 1
        return self._obs(), reward, self.t == 5, False, {}


def test_images_and_dict_observations_stay_as_they_are_until_the_encoder():
    agent = make("DQN", Seen, "none", num_steps=20, learning_starts=10).learn(40)
    assert agent.replay.obs["image"].dtype == np.uint8
    assert agent.update.gradient_steps > 0
    obs, _ = Seen().reset(seed=1)
    action, _ = agent.act(obs)
    assert agent.action_space.contains(action)


def test_steps_asked_for_are_steps_taken_and_learn_goes_on():
    agent = make("DDPG", "Pendulum-v1", "none").learn(120)
    assert agent.steps == 120
    agent.learn(30)
    assert agent.steps == 150
    assert len(agent.replay) == 150


def test_a_replay_that_cannot_be_read_is_never_taken_for_an_empty_one(tmp_path):
    make("DDPG", "Pendulum-v1", "none").learn(100).save(tmp_path / "agent")
    rows = next((tmp_path / "agent").rglob("rows_*"))
    rows.write_bytes(rows.read_bytes()[:40])
    agent = retain.load(tmp_path / "agent")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=rows.name):
            agent.learn(50)


def test_each_entry_of_a_dict_observation_is_normalised_by_its_own_statistics():
    class Two(gym.Env):
        observation_space = gym.spaces.Dict(
            near=gym.spaces.Box(-np.inf, np.inf, (1,), np.float32),
            far=gym.spaces.Box(-np.inf, np.inf, (1,), np.float32),
        )
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.seen(), {}

        def seen(self):
            draw = self.np_random.normal(size=2).astype(np.float32)
            return {"near": draw[:1], "far": 50.0 + 10.0 * draw[1:]}

        def step(self, action):
            return self.seen(), 0.0, False, self.np_random.random() < 0.1, {}

    agent = retain.DQN(Two, normalise_obs=True, num_envs=2, learning_starts=400, num_steps=200,
                       hidden=(8,), threads=0)  # fmt: skip
    agent.iterate(lambda: 0.0)
    means = sorted(float(entry.mean) for entry in agent.policy.normaliser.entries.values())
    assert means == pytest.approx([0.0, 50.0], abs=2.0)
