"""The doctor's last part: which setting is named, from planted metrics and from real training."""

import itertools
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

import retain
from retain.doctor import learning
from retain.doctor.learning import (
    NAME,
    judge,
    learning_results,
    look_around,
    train_for,
    waiting,
)
from retain.doctor.suspects import Look, Trained

SOUND = {"gamma": 0.99, "epochs": 10, "clip_range": 0.2, "entropy_coef": 0.01, "num_envs": 16,
         "num_steps": 128, "normalise_obs": True, "normalise_reward": True, "reward_clip": None,
         "reward_scale": 1.0, "sequence_length": None, "learning_rate": 3e-4}  # fmt: skip
ROW = {"approx_kl": 0.01, "clip_fraction": 0.1, "entropy": 0.6, "value_std": 1.0, "target_std": 1.2,
       "explained_variance": 0.4, "grad_norm": 1.0}  # fmt: skip
REWARDS = np.array([0.0, 1.0, 2.0])
TWO = gym.spaces.Discrete(2)


def trained(settings=None, row=None, *, actions=TWO, recurrent=False, wait=1.0,
            rewards=REWARDS, returns=(1.0,) * 10, broke=""):  # fmt: skip
    agent = SimpleNamespace(
        settings=SOUND | (settings or {}), steps=5000, action_space=actions,
        policy=SimpleNamespace(recurrent=recurrent), env="CartPole-v1",
        run_settings=SimpleNamespace(learned_reward=lambda x: x),
    )  # fmt: skip
    look = Look([0.5, 1.0, 1.5], rewards, wait, 100.0)
    return Trained(agent, look, [ROW, *[ROW | (row or {})] * 9], list(returns), broke)


BOX = gym.spaces.Box(-2, 2, (1,))
PLANTED = {
    "breaks": ({"broke": "loss"}, "--learning-rate: a tenth"),
    "raw rewards": ({"settings": {"normalise_reward": False}, "rewards": REWARDS * 1e3},
                    "--normalise-reward"),
    "small rewards": ({"settings": {"normalise_reward": False}, "rewards": REWARDS * 1e-3},
                      "--normalise-reward"),
    "clipped": ({"settings": {"reward_clip": 0.1}}, "--reward-clip"),
    "clip range": ({"settings": {"clip_range": 0.001}, "row": {"clip_fraction": 0.9}},
                   "--clip-range"),
    "passes": ({"settings": {"epochs": 100}}, "--epochs"),
    "rate too large": ({"row": {"approx_kl": 0.4}}, "--learning-rate: a tenth"),
    "rate rather large": ({"row": {"approx_kl": 0.08}}, "--learning-rate: a tenth"),
    "entropy blown up": ({"row": {"entropy": 3.0}}, "--learning-rate: a tenth"),
    "values diverge": ({"row": {"q_mean": 1e6}}, "--learning-rate: a tenth"),
    "bonus": ({"settings": {"entropy_coef": 1.0}, "row": {"entropy": 0.69}}, "--entropy-coef"),
    "spread": ({"settings": {"log_std_init": 3.0}, "actions": BOX}, "--log-std-init"),
    "discount": ({"settings": {"gamma": 0.5}, "wait": 20.0}, "--gamma"),
    "rate too small": ({"row": {"approx_kl": 1e-6}}, "--learning-rate: ten times"),
    "dead critic": ({"row": {"value_std": 0.01, "explained_variance": 0.0}}, "--value-coef"),
    "no value loss": ({"settings": {"value_coef": 0.0}}, "--value-coef"),
    "sequence": ({"settings": {"sequence_length": 2}, "recurrent": True}, "--sequence-length"),
    "one environment": ({"settings": {"num_envs": 1}}, "--num-envs"),
    "few updates": ({"settings": {"update_ratio": 0.001}}, "--update-ratio"),
    "small replay": ({"settings": {"buffer_size": 500}}, "--buffer-size"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_the_setting_that_is_wrong_is_named_with_its_flag(name):
    changes, flag = PLANTED[name]
    result = judge(trained(**changes), 30.0)
    assert (result.name, result.verdict) == (NAME, "warn")
    assert result.mend.startswith(flag)
    assert "most probably" in result.meaning


def test_a_return_that_rose_or_sound_settings_are_no_reason():
    result = judge(trained(), 30.0)
    assert result.verdict == "ok"
    assert "not risen yet, and nothing looks wrong" in result.measured
    assert "approx_kl 0.01" in result.measured
    high = [8.0, 9.0, 10.0, 11.0] * 5
    for changes in ({"settings": {"num_envs": 1}}, {"settings": {"gamma": 0.5}, "wait": 20.0}):
        assert judge(trained(**changes, returns=high), 30.0).verdict == "ok"
    assert judge(trained(row={"approx_kl": 0.4}, returns=high), 30.0).verdict == "warn"
    wide = trained({"log_std_init": 0.0}, actions=BOX)
    assert judge(wide, 30.0).verdict == "ok"


def test_waiting_is_for_rewards_that_say_something():
    assert waiting([[0.0] * 19 + [1.0], [0.0] * 19 + [-1.0]]) == 20.0
    assert waiting([[1.0] * 20]) == 1.0  # each step survived
    assert waiting([[-0.1, -0.2, -0.3]]) == 1.0
    assert waiting([[0.0] * 30]) == 30.0
    assert waiting([[0.0, 0.0, 5.0, 0.0, 0.0, 5.0]]) == 3.0


def test_random_play_is_looked_at_and_cut(monkeypatch):
    look = look_around(retain.PPO("TMaze-v0", num_envs=2, num_steps=8, batch_size=16))
    assert (look.wait, look.length, len(look.returns)) == (21.0, 21.0, 20)
    monkeypatch.setattr(learning, "RANDOM_STEPS", 50)
    look = look_around(retain.PPO("Pendulum-v1", num_envs=2, num_steps=8, batch_size=16))
    assert len(look.rewards) == 50


@pytest.mark.parametrize("updates", [3, 12, 40])
def test_training_with_the_real_settings_names_a_planted_one(updates, monkeypatch):
    """However quick the machine is: at once the steps are too large, later the policy is stuck."""
    ticks = itertools.count()
    monkeypatch.setattr(
        learning, "train_for",
        lambda agent, seconds, look: train_for(agent, updates, look, lambda: next(ticks)),
    )  # fmt: skip
    agent = retain.PPO("CartPole-v1", num_envs=4, num_steps=32, batch_size=32, learning_rate=0.3)
    before = agent.policy.state_dict()["head.linear.weight"].clone()
    [result] = learning_results(agent, agent.env)
    assert result.mend.startswith("--learning-rate: a tenth")
    assert agent.steps == 0
    assert (agent.policy.state_dict()["head.linear.weight"] == before).all()
    agent = retain.PPO("CartPole-v1", num_envs=4, num_steps=32, batch_size=32, learning_rate=1e-7)
    [result] = learning_results(agent, agent.env)
    assert result.mend.startswith("--learning-rate: ten times")
