"""The memory suite: its documented returns are what oracles, guessers and the memoryless get."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from retain.envs.catalogue import CATALOGUE
from retain.envs.make import make
from retain.envs.native import NATIVE
from retain.envs.options import EnvOptions
from retain.envs.suite.bandit import Bandit

B = 512


class Oracle:
    """Plays from the observations alone, with perfect memory of them."""

    def __init__(self, name):
        self.seen, self.name = [], name

    def __call__(self, obs):
        self.seen.append(obs.copy())
        t, first = len(self.seen) - 1, self.seen[0]
        if self.name == "RepeatPrevious-v0":
            return self.seen[max(t - 4, 0)].argmax(1)
        if self.name == "RepeatFirst-v0":
            return first[:, :4].argmax(1)
        if self.name == "Autoencode-v0":
            return self.seen[11 - t if t >= 6 else t][:, :4].argmax(1)
        if self.name in ("TMaze-v0", "MemoryChain-v0"):
            bits = first.shape[1] // 2
            return first[np.arange(len(obs)), obs[:, bits:].argmax(1)] > 0
        if self.name == "CueTarget-v0":
            return first[:, 2] > 0
        return bayes(self.seen)


def bayes(seen):
    """The index-free optimum of two arms needs planning; the posterior mean comes close."""
    pulls = np.stack([s[:, :-1] for s in seen]).sum(0)
    wins = np.stack([s[:, :-1] * s[:, -1:] for s in seen]).sum(0)
    bonus = 0.6 / np.sqrt(pulls + 2)
    return ((wins + 1) / (pulls + 2) + bonus).argmax(1)


def returns(name, policy, count=B, seed=0):
    backend = make(name, count)
    obs = backend.reset(np.ones(count, dtype=bool), np.arange(count) + seed)
    total, alive = np.zeros(count), np.ones(count, dtype=bool)
    for _ in range(200):
        obs, reward, terminated, truncated = backend.step(np.asarray(policy(obs), dtype=np.int64))
        total += np.where(alive, reward, 0)
        alive &= ~(terminated | truncated)
        ended = terminated | truncated
        if not alive.any():
            return total
        if ended.any():
            obs = backend.reset(ended, np.full(count, 7))
    raise AssertionError("an episode never ended")


TASKS = ["RepeatPrevious-v0", "RepeatFirst-v0", "Autoencode-v0", "TMaze-v0", "MemoryChain-v0",
         "CueTarget-v0", "Bandit-v0"]  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_memory_reaches_the_documented_optimum(name):
    got = returns(name, Oracle(name))
    if name == "Bandit-v0":
        assert 31.0 < got.mean() < CATALOGUE[name].good + 3 * got.std() / np.sqrt(B)
    else:
        np.testing.assert_allclose(got, CATALOGUE[name].good, atol=1e-9)


@pytest.mark.parametrize("name", TASKS)
def test_random_actions_get_the_documented_return(name):
    dice = np.random.default_rng(1)
    actions = make(name, 1).action_space.n
    got = returns(name, lambda obs: dice.integers(0, actions, len(obs)), 4 * B)
    assert abs(got.mean() - CATALOGUE[name].random) < 4 * got.std() / np.sqrt(len(got)) + 1e-3


@pytest.mark.parametrize("name", TASKS)
def test_no_function_of_the_current_observation_beats_the_documented_one(name):
    """Random tables from observations to actions: the best of many, on fresh episodes."""
    actions = make(name, 1).action_space.n
    best, facts = None, CATALOGUE[name]
    for number in range(60):
        table = {}
        dice = np.random.default_rng(number)

        def act(obs, table=table, dice=dice):
            keys = [row.tobytes() for row in np.round(obs, 3)]
            return [table.setdefault(key, dice.integers(actions)) for key in keys]

        mean = returns(name, act, 256).mean()
        if best is None or mean > best[0]:
            best = (mean, number, table)
    fresh_table, dice = best[2], np.random.default_rng(best[1] + 1000)
    fresh = returns(
        name,
        lambda obs: [fresh_table.setdefault(r.tobytes(), dice.integers(actions))
                     for r in np.round(obs, 3)],
        4 * B, seed=99_999,
    )  # fmt: skip
    slack = 4 * fresh.std() / np.sqrt(len(fresh)) + 1e-3
    assert fresh.mean() < facts.memoryless + slack
    assert facts.memoryless < facts.good


def test_win_stay_lose_shift_is_the_bandits_documented_memoryless_return():
    def act(obs):
        last = obs[:, :-1].argmax(1)
        return np.where((obs[:, -1] > 0) | (obs.sum(1) == 0), last, 1 - last)

    got = returns("Bandit-v0", act, 8 * B)
    assert abs(got.mean() - CATALOGUE["Bandit-v0"].memoryless) < 4 * got.std() / np.sqrt(len(got))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NATIVE)
def test_every_task_is_a_gymnasium_environment(name):
    check_env(gym.make(f"retain/{name}").unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", [*TASKS, "NoisyCartPole-v0", "NoisyPendulumNoVel-v0"])
def test_batch_and_single_are_the_same_episodes_at_any_index(name):
    native, single = make(name, 3), make(name, 3, EnvOptions(native=False))
    seeds = np.array([5, 6, 5])
    everywhere = np.ones(3, dtype=bool)
    one, two = native.reset(everywhere, seeds), single.reset(everywhere, seeds)
    dice = np.random.default_rng(0)
    for _ in range(60):
        np.testing.assert_array_equal(one, two)
        if "Pendulum" in name:
            action = np.repeat(dice.uniform(-2, 2, (1, 1)), 3, 0).astype(np.float32)
        else:
            action = np.repeat(dice.integers(0, native.action_space.n), 3)
        a, b = native.step(action), single.step(action)
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(a.obs[0], a.obs[2])
        one, two, ended = a.obs, b.obs, a.terminated | a.truncated
        if ended.any():
            seeds = seeds + 1
            one, two = native.reset(ended, seeds), single.reset(ended, seeds)


def test_noise_has_the_spread_it_says_and_leaves_the_dynamics_alone():
    noisy, clean = make("NoisyPendulum-v0", 64), make("Pendulum-v1", 64)
    everywhere = np.ones(64, dtype=bool)
    errors = [noisy.reset(everywhere, np.arange(64)) - clean.reset(everywhere, np.arange(64))]
    for _ in range(50):
        action = np.full((64, 1), 0.5, np.float32)
        one, two = noisy.step(action), clean.step(action)
        np.testing.assert_array_equal(one.reward, two.reward)
        errors.append(one.obs - two.obs)
    errors = np.stack(errors)
    assert errors.std() == pytest.approx(0.1, rel=0.03)
    assert abs(errors.mean()) < 0.005


def test_arms_pay_with_their_own_probability():
    bandit = Bandit(400, arms=3, length=200)
    bandit.reset(np.ones(400, dtype=bool), np.arange(400))
    means = bandit.pays.mean(0)
    assert means.mean() == pytest.approx(0.5, abs=0.03)
    assert means.std() == pytest.approx(np.sqrt(1 / 12), abs=0.03)
