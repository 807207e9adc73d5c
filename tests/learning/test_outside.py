"""Slow: parts that live outside the package learn, and the doctor finds nothing in them."""

from pathlib import Path

import pytest

import retain

EXAMPLES = Path(__file__).parents[2] / "examples"
SEEDS = range(1, 6)

pytestmark = pytest.mark.learning


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def sound(agent):
    assert [r for r in retain.doctor(agent).results if r.verdict == "fail"] == []


def test_a_memory_from_outside_balances_a_pole_without_velocities():
    from own_memory import Fading

    sound(retain.PPO("CartPoleNoVel-v1", memory=Fading))
    agents = [retain.PPO("CartPoleNoVel-v1", memory=Fading, seed=seed) for seed in SEEDS]
    values = [agent.learn(100_000).evaluate(20).return_mean for agent in agents]
    assert sum(value >= 475 for value in values) >= 4


def test_an_encoder_from_outside_balances_a_pole():
    from own_encoder import Waves

    sound(retain.PPO("CartPole-v1", encoder=Waves))
    agents = [retain.PPO("CartPole-v1", encoder=Waves, seed=seed) for seed in SEEDS]
    values = [agent.learn(100_000).evaluate(20).return_mean for agent in agents]
    assert sum(value >= 475 for value in values) >= 4


def test_an_environment_and_a_backend_from_outside_are_learned_alike():
    import own_batch  # noqa: F401 (registers it)
    from own_environment import FirstSign

    settings = {"memory": "gru", "learning_rate": 2e-3, "num_envs": 8}
    sound(retain.PPO(FirstSign, **settings))
    for env in (FirstSign, "FirstSigns-v0"):
        agents = [retain.PPO(env, seed=seed, **settings) for seed in SEEDS]
        values = [agent.learn(50_000).evaluate(100).return_mean for agent in agents]
        assert sum(value >= 0.95 for value in values) >= 4, env


def test_an_algorithm_from_outside_balances_a_pole():
    from own_algorithm import PenaltyPPO

    sound(PenaltyPPO("CartPole-v1"))
    agents = [PenaltyPPO("CartPole-v1", seed=seed, learning_rate=1e-3) for seed in SEEDS]
    values = [agent.learn(100_000).evaluate(20).return_mean for agent in agents]
    assert sum(value >= 475 for value in values) >= 4
