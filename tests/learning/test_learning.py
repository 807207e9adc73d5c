"""Slow: agents learn what they should, on several seeds each (`make learn`)."""

import statistics

import pytest

import retain

SEEDS = range(1, 6)

pytestmark = pytest.mark.learning


def returns(env, memory, steps, algo="PPO"):
    """Deterministic evaluation of the final agent for each seed, under the presets users get."""
    kind = getattr(retain, algo)
    return [
        kind(env, memory=memory, seed=seed).learn(steps).evaluate(20).return_mean for seed in SEEDS
    ]


@pytest.mark.parametrize(
    ("env", "steps", "goal"),
    [("CartPole-v1", 100_000, 500), ("Acrobot-v1", 500_000, -90), ("Pendulum-v1", 100_000, -200)],
)
def test_ppo_without_memory_reaches_published_returns(env, steps, goal):
    assert statistics.median(returns(env, "none", steps)) >= goal


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_memory_balances_a_pole_without_velocities(memory):
    assert sum(value >= 475 for value in returns("CartPoleNoVel-v1", memory, 100_000)) >= 4


def test_without_memory_the_pole_without_velocities_falls():
    assert max(returns("CartPoleNoVel-v1", "none", 100_000)) < 100


def test_memory_swings_up_a_pendulum_without_velocity():
    assert statistics.median(returns("PendulumNoVel-v1", "lstm", 100_000)) >= -250


def test_memory_rocks_a_car_out_of_the_valley_without_velocity():
    values = returns("MountainCarContinuousNoVel-v0", "lstm", 300_000)
    assert sum(value >= 88 for value in values) >= 4


@pytest.mark.parametrize("algo", ["DDPG", "TD3", "SAC"])
def test_off_policy_swings_up_a_pendulum(algo):
    assert statistics.median(returns("Pendulum-v1", "none", 20_000, algo)) >= -250


@pytest.mark.parametrize(("algo", "memory"), [("TD3", "lstm"), ("SAC", "lstm"), ("DDPG", "window")])
def test_off_policy_memory_swings_up_a_pendulum_without_velocity(algo, memory):
    assert statistics.median(returns("PendulumNoVel-v1", memory, 30_000, algo)) >= -250


def test_without_memory_the_pendulum_without_velocity_stays_down():
    assert max(returns("PendulumNoVel-v1", "none", 30_000, "DDPG")) < -800


def test_deep_q_learning_balances_a_pole_without_velocities_with_memory_alone():
    assert statistics.median(returns("CartPoleNoVel-v1", "lstm", 100_000, "DQN")) >= 400
    assert max(returns("CartPoleNoVel-v1", "none", 100_000, "DQN")) < 100
