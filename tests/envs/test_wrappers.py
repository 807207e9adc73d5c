"""Wrappers: what they change, and that all they draw comes from the episode's seed."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

import retain
from retain.envs.groups import make_groups
from retain.envs.make import make_single
from retain.envs.options import EnvOptions
from retain.envs.wrappers import ACTION_MASK
from retain.errors import UsageError
from retain.nn import encoders


class Counter(gym.Env):
    """Observes (steps, last action, 1); the reward of a step is its number; ends after ten."""

    observation_space = gym.spaces.Box(-99, 99, (3,), np.float64)
    action_space = gym.spaces.Discrete(7)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([0.0, -1.0, 1.0]), {"action_mask": [1] * 7}

    def step(self, action):
        self.t += 1
        mask = [int(k != self.t % 7) for k in range(7)]
        return (
            np.array([self.t, action, 1.0]),
            float(self.t),
            self.t >= 10,
            False,
            {"action_mask": mask},
        )


def play(options, steps=10, seed=3, actions=None):
    env = make_single(Counter, EnvOptions(**options))
    obs, _ = env.reset(seed=seed)
    told = [(obs, 0.0, False, False)]
    for t in range(steps):
        obs, reward, terminated, truncated, _ = env.step(t % 7 if actions is None else actions[t])
        told.append((obs, reward, terminated, truncated))
        if terminated or truncated:
            break
    return env, told


def test_frame_skip_adds_rewards_and_stops_at_an_end():
    _, told = play({"frame_skip": 4})
    assert [(obs[0], reward, end) for obs, reward, end, _ in told] == [
        (0, 0, False), (4, 1 + 2 + 3 + 4, False), (8, 5 + 6 + 7 + 8, False), (10, 9 + 10, True)]  # fmt: skip


def test_a_time_limit_truncates():
    _, told = play({"time_limit": 4})
    assert len(told) == 5
    assert told[-1][2:] == (False, True)


def test_hidden_entries_are_gone():
    env, told = play({"hide": (0, 2)})
    assert env.observation_space.shape == (1,)
    assert [obs.tolist() for obs, *_ in told[:3]] == [[-1], [0], [1]]


def test_noise_comes_from_the_seed_alone_and_has_its_spread():
    once, again, other = (play({"obs_noise": 0.5}, seed=s)[1] for s in (3, 3, 4))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0][0], other[0][0])
    clean = play({})[1]
    errors = [a[0] - b[0] for s in range(200) for a, b in
              zip(play({"obs_noise": 0.5}, seed=s)[1], clean, strict=True)]  # fmt: skip
    assert np.std(errors) == pytest.approx(0.5, rel=0.05)


def test_flicker_blanks_at_its_rate_by_the_seed():
    blank = [not obs.any() for s in range(300) for obs, *_ in play({"flicker": 0.3}, seed=s)[1]]
    assert np.mean(blank) == pytest.approx(0.3, abs=0.03)
    one, two = play({"flicker": 0.3})[1], play({"flicker": 0.3})[1]
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def test_sticky_actions_repeat_at_their_rate_and_never_at_the_start():
    stuck = []
    for seed in range(400):
        _, told = play({"sticky_actions": 0.25}, seed=seed)
        done = [obs[1] for obs, *_ in told[1:]]
        assert done[0] == 0
        stuck += [now == before for before, now in itertools.pairwise(done)]
    assert np.mean(stuck) == pytest.approx(0.25, abs=0.03)


def test_rewards_are_learned_from_scaled_and_clipped_but_reported_as_they_are():
    agent = retain.PPO(Counter, num_envs=2, num_steps=10, batch_size=20, reward_scale=0.5,
                       reward_clip=2.0, memory="lstm", previous_reward=True)  # fmt: skip
    rollout = agent.collector.collect(10)
    expected = np.minimum(np.arange(1, 11) * 0.5, 2.0)
    assert rollout.reward[:, 0].tolist() == expected.tolist()
    assert rollout.previous_reward[1:, 0].tolist() == expected[:-1].tolist()
    assert [e.ret for e in agent.collector.statistics.recent] == [55.0, 55.0]
    assert agent.evaluate(2).return_mean == 55.0
    carry = agent.initial_carry(1)
    _, one = agent.act(np.zeros(3), carry, False, reward=100.0, deterministic=True)
    _, two = agent.act(np.zeros(3), carry, False, reward=4.0, deterministic=True)
    assert all(a.equal(b) for a, b in zip(one[0][0], two[0][0], strict=True))


def test_masks_from_info_are_obeyed_everywhere():
    assert ACTION_MASK == encoders.ACTION_MASK
    agent = retain.PPO(Counter, num_envs=2, num_steps=30, batch_size=60, mask_actions=True)
    rollout = agent.collector.collect(30)
    allowed = rollout.obs[ACTION_MASK].gather(-1, rollout.action.unsqueeze(-1))
    assert allowed.min() == 1
    assert rollout.obs[ACTION_MASK].min() == 0


@pytest.mark.parametrize("options", [
    {"obs_noise": 0.1}, {"flicker": 0.5}, {"sticky_actions": 0.5}, {"frame_skip": 2, "time_limit": 3},
])  # fmt: skip
def test_wrapped_environments_are_the_same_in_workers(options):
    told = []
    for workers in (0, 2):
        [backend] = make_groups(Counter, 4, EnvOptions(workers=workers, **options))
        obs = backend.reset(np.ones(4, dtype=bool), np.arange(4))
        rows = [obs.copy()]
        for t in range(8):
            out = backend.step(np.full(4, t % 7))
            rows += [out.obs.copy(), out.reward.copy()]
            ended = out.terminated | out.truncated
            if ended.any():
                rows.append(backend.reset(ended, np.arange(4) + t).copy())
        told.append(rows)
        backend.close()
    for one, two in zip(*told, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("env", "options", "message"), [
    ("CartPole-v1", {"hide": (4,)}, "entry 4 is outside the observation .expected 0 to 3"),
    ("CartPole-v1", {"hide": (0, 1, 2, 3)}, "leaves no entry"),
    ("CartPole-v1", {"mask_actions": True}, "no 'action_mask'"),
    ("Pendulum-v1", {"mask_actions": True}, "mask_actions needs Discrete actions"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(env, options, message):
    with pytest.raises(UsageError, match=message):
        make_single(env, EnvOptions(**options))


@pytest.mark.parametrize(("name", "value"), [
    ("flicker", 1.5), ("frame_skip", 0), ("time_limit", 0), ("reward_clip", 0.0), ("workers", -1),
    ("worker_timeout", 0.0), ("obs_noise", -0.1),
])  # fmt: skip
def test_meaningless_options_are_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} is {value}"):
        EnvOptions(**{name: value})
