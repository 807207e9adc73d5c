"""Settings over an agent's life: what may change, when, and what the line says where not."""

import pytest

import retain
from retain.errors import UsageError
from retain.train.changes import fixed

SMALL = {"num_envs": 2, "num_steps": 16, "batch_size": 16, "preset": "none", "seed": 3}


@pytest.mark.parametrize(
    ("assign", "name"),
    [
        (lambda a: setattr(a, "config", a.config), "config"),
        (lambda a: setattr(a, "learning_rate", 1e-4), "learning_rate"),
        (lambda a: setattr(a.config, "learning_rate", 1e-4), "learning_rate"),
    ],
)
def test_assigning_a_setting_is_refused_rather_than_ignored(assign, name):
    agent = retain.PPO("CartPole-v1", **SMALL)
    with pytest.raises(
        UsageError, match=rf"{name} cannot be assigned.*retain.load\(path, learning"
    ):
        assign(agent)
    agent.note = "people may keep things of their own"
