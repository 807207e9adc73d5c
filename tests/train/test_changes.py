"""Settings over an agent's life: what may change, when, and what the line says where not."""

import pytest

import retain
from retain.errors import UsageError

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


def learned(kind, parts, of=None, **settings):
    """An agent that learned in several calls, and the learning rates it was stepped with."""
    agent = kind("CartPole-v1", **settings)
    for steps in parts:
        agent.learn(steps, of=of)
    return agent


def same(one, two):
    state = two.policy.state_dict()
    return all(value.equal(state[name]) for name, value in one.policy.state_dict().items())


OFF = {"preset": "none", "learning_starts": 20, "num_steps": 30, "batch_size": 16, "hidden": (8,)}


@pytest.mark.parametrize(
    ("kind", "settings", "parts"),
    [
        (retain.PPO, SMALL | {"clip_schedule": "linear", "entropy_schedule": "linear"}, (64, 32, 64)),
        (retain.DQN, OFF | {"seed": 2, "exploration_fraction": 0.9}, (45, 30, 85)),
    ],
)  # fmt: skip
def test_several_calls_of_learn_share_one_schedule(kind, settings, parts, tmp_path):
    whole = learned(kind, [sum(parts)], **settings)
    shared = learned(kind, parts, of=sum(parts), **settings)
    assert shared.steps == whole.steps == sum(parts)
    assert same(whole, shared)
    assert not same(whole, learned(kind, parts, **settings))
    saved = learned(kind, parts[:1], of=sum(parts), **settings)
    saved.save(tmp_path / "agent")
    again = retain.load(tmp_path / "agent")
    for steps in parts[1:]:
        again.learn(steps, of=sum(parts))
    assert same(whole, again)


def test_an_end_of_schedules_that_is_past_is_refused():
    agent = learned(retain.PPO, [64], **SMALL)
    with pytest.raises(UsageError, match="of is 64, but 64 steps are done"):
        agent.learn(32, of=64)
