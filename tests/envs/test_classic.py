"""The native batches are bit-identical to gymnasium's environments."""

import numpy as np
import pytest

from retain.envs.make import make
from retain.envs.native import NATIVE
from retain.envs.options import EnvOptions
from retain.envs.seeding import episode_seed

B = 5


def actions(backend, rng):
    if backend.action_space.shape == ():
        return rng.integers(0, 2, B)
    return rng.uniform(-2.5, 2.5, (B, 1)).astype(np.float32)  # beyond the bounds as well


@pytest.mark.parametrize("name", NATIVE)
def test_native_batch_equals_gymnasium_bit_for_bit(name):
    native, slow = make(name, B), make(name, B, EnvOptions(native=False))
    assert native.observation_space == slow.observation_space
    assert native.action_space == slow.action_space
    rng, number = np.random.default_rng(0), np.zeros(B, dtype=np.int64)
    everywhere = np.ones(B, dtype=np.bool_)
    seeds = episode_seed(7, np.arange(B), number)
    obs, slow_obs = native.reset(everywhere, seeds), slow.reset(everywhere, seeds)
    assert obs.dtype == slow_obs.dtype
    assert np.array_equal(obs, slow_obs)
    terminations = truncations = 0
    for _ in range(3000):
        action = actions(native, rng)
        ours, theirs = native.step(action), slow.step(action)
        for one, other in zip(ours, theirs, strict=True):
            assert np.array_equal(one, other)
        ended = ours.terminated | ours.truncated
        terminations += ours.terminated.sum()
        truncations += ours.truncated.sum()
        if ended.any():
            number[ended] += 1
            seeds = episode_seed(7, np.arange(B), number)
            kept = np.array(ours.obs)
            obs, slow_obs = native.reset(ended, seeds), slow.reset(ended, seeds)
            assert np.array_equal(obs, slow_obs)
            assert np.array_equal(obs[~ended], kept[~ended])  # the others are untouched
    assert terminations + truncations > 50


def test_cartpole_truncates_after_500_steps_as_gymnasium_does():
    """A policy that balances: both flags at the limit, on both backends."""
    native, slow = make("CartPole-v1", 1), make("CartPole-v1", 1, EnvOptions(native=False))
    for backend in (native, slow):
        obs = backend.reset(np.ones(1, dtype=np.bool_), np.array([3]))
        for step in range(500):
            tilt = obs[0, 2] + 0.5 * obs[0, 3] + 0.05 * obs[0, 0] + 0.1 * obs[0, 1]
            obs, _, terminated, truncated = backend.step(np.array([int(tilt > 0)]))
            assert not terminated[0]
            assert truncated[0] == (step == 499)


@pytest.mark.parametrize("native", [True, False])
def test_an_episode_is_its_seed_and_its_actions_at_any_index(native):
    backend = make("CartPoleNoVel-v1", 3, EnvOptions(native=native))
    rng = np.random.default_rng(1)
    plan = rng.integers(0, 2, (8, 3))

    def play(index):
        seeds = np.arange(3) + 10
        seeds[index] = 99
        frames = [backend.reset(np.ones(3, dtype=np.bool_), seeds)[index].copy()]
        for row in plan:
            row = row.copy()
            row[index] = row[0]
            frames.append(backend.step(row).obs[index].copy())
        return np.stack(frames)

    plan[:, 1] = plan[:, 0]
    assert np.array_equal(play(0), play(2))


def test_episode_seeds_differ_by_run_environment_and_number():
    index, number = (x.ravel() for x in np.meshgrid(np.arange(50), np.arange(200)))
    seeds = np.concatenate([episode_seed(run, index, number) for run in (1, 2)])
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    assert len(np.unique(seeds)) > 0.999 * len(seeds)
    assert np.array_equal(episode_seed(1, index[:3], number[:3]), seeds[:3])
