"""The collector keeps the timeline: resets, carries, successors, seeds, replays."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.envs.seeding import episode_seed
from retain.nn.torso import previous_inputs
from retain.types import tree_leaves


class Tagged(gym.Env):
    """Observes (episode seed, step); ends by termination or truncation on a fixed plan."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), dtype=np.float64)
    action_space = gym.spaces.Discrete(2)
    length, ends = 5, "terminated"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t = seed, 0
        return np.array([seed, 0.0]), {}

    def step(self, action):
        self.t += 1
        over = self.t == self.length + self.seed % 3
        obs = np.array([self.seed, float(self.t)])
        ends = self.ends
        return obs, float(self.t), over and ends == "terminated", over and ends == "truncated", {}


class Cut(Tagged):
    ends = "truncated"


SETTINGS = {"num_envs": 3, "num_steps": 16, "batch_size": 16, "memory_hidden": 8, "hidden": (8,)}


def agent(env=Tagged, **changes):
    settings = {"memory": "lstm", "seed": 4} | SETTINGS | changes
    return retain.PPO(env, preset="none", **retain.PPO.useful(settings))


def test_reset_marks_exactly_the_first_observation_of_each_episode():
    one = agent()
    rollouts = [one.collector.collect(16) for _ in range(3)]
    obs = torch.cat([r.obs for r in rollouts])
    reset = torch.cat([r.reset for r in rollouts])
    ended = torch.cat([r.terminated | r.truncated for r in rollouts])
    assert torch.equal(reset, obs[..., 1] == 0.0)
    assert torch.equal(reset[1:], ended[:-1])
    assert reset[0].all()
    assert ended.sum() > 10


def test_each_episode_has_its_own_seed_from_run_environment_and_number():
    obs = agent().collector.collect(16).obs
    for env in range(3):
        seen = list(dict.fromkeys(obs[:, env, 0].tolist()))
        numbers = np.arange(len(seen))
        expected = episode_seed(4, np.full(len(seen), env), numbers)
        assert seen == expected.tolist()


def test_carry_crosses_segments_and_never_episodes():
    one = agent()
    first, second = one.collector.collect(16), one.collector.collect(16)
    for leaf, other in zip(
        tree_leaves(first.carry_out), tree_leaves(second.carries[0]), strict=True
    ):
        assert torch.equal(leaf, other)
    obs = torch.cat((first.obs, second.obs)).float()
    reset = torch.cat((first.reset, second.reset))
    _, whole, _ = one.policy(obs, first.carries[0], reset)
    torch.testing.assert_close(whole, torch.cat((first.value, second.value)), atol=1e-6, rtol=0)
    # Every episode alone, from an empty carry, gives the same values: nothing leaked.
    for env in range(3):
        starts = [*np.flatnonzero(reset[:, env]).tolist(), 32]
        for a, b in itertools.pairwise(starts):
            flags = torch.zeros(b - a, 1, dtype=torch.bool)
            _, alone, _ = one.policy(obs[a:b, env : env + 1], one.policy.initial_carry(1), flags)
            torch.testing.assert_close(alone[:, 0], whole[a:b, env], atol=1e-6, rtol=0)


@pytest.mark.parametrize("memory", ["none", "lstm", "gru"])
def test_next_value_is_that_of_the_true_successor_under_the_carry_before_the_reset(memory):
    one = agent(Cut, memory=memory)
    one.collector.collect(16)
    rollout = one.collector.collect(16)
    assert rollout.truncated.sum() > 3
    following = one.collector.streams[0].obs
    for env in range(3):
        carry = tuple(tuple(leaf[env : env + 1] for leaf in torso) for torso in rollout.carries[0])
        for t in range(16):
            obs = rollout.obs[t : t + 1, env : env + 1].float()
            flag = rollout.reset[t : t + 1, env : env + 1]
            _, _, carry = one.policy(obs, carry, flag)
            seed, step = obs[0, 0].tolist()
            if rollout.truncated[t, env]:
                successor = torch.tensor([[[seed, step + 1]]])
            elif t == 15:
                successor = torch.from_numpy(following[env : env + 1]).float().unsqueeze(0)
            else:
                successor = rollout.obs[t + 1 : t + 2, env : env + 1].float()
            _, value, _ = one.policy(successor, carry, torch.zeros(1, 1, dtype=torch.bool))
            assert rollout.next_value[t, env].item() == pytest.approx(value.item(), abs=1e-5)


def test_stored_log_prob_is_that_of_the_unclipped_action():
    one = retain.PPO("PendulumNoVel-v1", **(SETTINGS | {
        "memory": "gru", "log_std_init": 2.0, "use_sde": False, "previous_action": False, "sequence_length": None}))  # fmt: skip
    rollout = one.collector.collect(16)
    assert (rollout.action.abs() > 2).any()  # beyond the bounds, where clipping would show
    dist, _, _ = one.policy(rollout.obs, rollout.carries[0], rollout.reset)
    torch.testing.assert_close(dist.log_prob(rollout.action), rollout.log_prob, atol=1e-5, rtol=0)


def test_previous_inputs_are_the_last_steps_and_zero_at_a_start():
    one = agent(previous_action=True, previous_reward=True)
    one.collector.collect(16)
    first = one.collector.collect(16)
    torch.testing.assert_close(first.previous_action[1:], first.action[:-1])
    torch.testing.assert_close(first.previous_reward[1:], first.reward[:-1])
    features = previous_inputs(one.config, one.policy.coder.encode, first.previous_action,
                               first.previous_reward, first.reset)  # fmt: skip
    for feature in features:
        assert not feature[first.reset].any()
    assert features[0][~first.reset].sum() == (~first.reset).sum()  # one-hot


def test_episode_statistics_are_the_environments_own():
    one = agent()
    rollout = one.collector.collect(48)
    finished = one.collector.statistics.take_finished()
    assert len(finished) == rollout.terminated.sum()
    for episode in finished:
        assert 5 <= episode.length <= 7
        assert episode.ret == sum(range(1, episode.length + 1))


def test_history_of_actions_is_trimmed_but_replays(monkeypatch):
    monkeypatch.setattr("retain.envs.history.TRIM", 20)
    one = agent("CartPole-v1")
    for _ in range(8):
        one.collector.collect(16)
    assert len(one.backends[0].history._actions) < 100
    tensors, facts = one.collector.state()
    two = agent("CartPole-v1")
    assert not two.collector.restore(tensors, facts).any()
    a, b = (x.collector.collect(16) for x in (one, two))
    assert torch.equal(a.obs, b.obs)


class Fickle(Tagged):
    """Not deterministic given its seed."""

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        return obs + np.array([0.0, np.random.default_rng().random()]), info


def test_an_environment_that_does_not_replay_is_noticed_and_its_episode_cut():
    one = agent(Fickle)
    one.collector.collect(15)
    tensors, facts = one.collector.state()
    two = agent(Fickle)
    two.collector.streams[0].start()
    differs = two.collector.restore(tensors, facts)
    assert np.array_equal(differs, two.collector.streams[0].obs[:, 1] < 1)
    assert two.collector.streams[0].reset_flags[differs].all()


@pytest.mark.parametrize(("every", "draws"), [(-1, 2), (4, 8), (5, 8)])
def test_shared_noise_is_drawn_at_each_segments_start_and_as_often_as_asked(
    every, draws, monkeypatch
):
    one = retain.PPO("Pendulum-v1", use_sde=True, sde_sample_freq=every, num_envs=2, num_steps=16,
                     batch_size=32, hidden=(8,), preset="none")  # fmt: skip
    drawn = []
    draw = one.policy.head.draw_exploration

    def spy(*args):
        drawn.append(1)
        return draw(*args)

    monkeypatch.setattr(one.policy.head, "draw_exploration", spy)
    for _ in range(2):
        one.collector.collect(16)
    assert len(drawn) == draws
