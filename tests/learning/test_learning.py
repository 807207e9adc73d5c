"""Slow: agents learn what they should, on several seeds each (`make learn`)."""

import statistics

import pytest

import retain

SEEDS = range(1, 6)

pytestmark = pytest.mark.learning


def returns(env, memory, steps):
    """Deterministic evaluation of the final agent for each seed, under the presets users get."""
    return [
        retain.PPO(env, memory=memory, seed=seed).learn(steps).evaluate(20).return_mean
        for seed in SEEDS
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
