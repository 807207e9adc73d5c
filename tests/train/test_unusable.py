"""What an environment answers that nobody can act on is the environment's fault, and said to be."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.cli.main import run
from retain.errors import EnvironmentFailure, NonFiniteError

SMALL = {"num_envs": 4, "num_steps": 16, "batch_size": 32, "epochs": 1, "hidden": (8,), "seed": 3}


class Breaks(gym.Env):
    """Answers something unusable at the third step of every episode of one kind of seed."""

    observation_space = gym.spaces.Dict(
        {
            "x": gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
            "action_mask": gym.spaces.MultiBinary(2),
        }
    )
    action_space = gym.spaces.Discrete(2)
    how = "mask"

    def answer(self):
        x, mask = np.zeros(3, np.float32), np.ones(2, np.int8)
        if self.t == (0 if self.how == "start" else 3) and self.seed % 5 == 1:
            if self.how in ("mask", "start"):
                mask[:] = 0
            if self.how == "obs":
                x[1] = np.nan
        return {"x": x, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        self.t, self.seed = 0, seed
        return self.answer(), {}

    def step(self, action):
        self.t += 1
        broken = self.how == "reward" and self.t == 3 and self.seed % 5 == 1
        return self.answer(), -np.inf if broken else 1.0, False, self.t == 9, {}


def kind(how):
    return type(f"Breaks{how}", (Breaks,), {"how": how})


@pytest.mark.parametrize(("how", "said", "workers"), [
    ("mask", "the action mask allows no action", 0),
    ("start", "at the reset, the action mask allows no action", 0),
    ("start", "at the reset, the action mask allows no action", 2),
    ("obs", "entry 'x' of the observation[1] is nan (expected a finite number)", 0),
    ("reward", "the reward is -inf (expected a finite number)", 0),
])  # fmt: skip
def test_the_episode_ends_there_and_the_incident_names_it(tmp_path, how, said, workers):
    agent = retain.PPO(kind(how), **SMALL, workers=workers)
    agent.learn(128, out=tmp_path / "run")
    assert all(torch.isfinite(p).all() for p in agent.policy.parameters())
    reports = [json.loads(x) for x in (tmp_path / "run" / "incidents.jsonl").open()]
    first = next(report for report in reports if report["kind"] == "unusable")
    assert said in first["traceback"]
    assert first["seed"] % 5 == 1
    assert len(first["actions"]) == (1 if how == "start" else 3)
    lengths = [json.loads(x) for x in (tmp_path / "run" / "episodes.jsonl").open()]
    broken = 1 if how == "start" else 3
    assert all(x["length"] == (broken if x["seed"] % 5 == 1 else 9) for x in lengths)


def test_one_that_always_does_stops_the_run(tmp_path):
    class Always(Breaks):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=1)

    with pytest.raises(EnvironmentFailure, match=r"environment \d failed in 3 episodes in a row"):
        retain.PPO(Always, **SMALL).learn(1000, out=tmp_path / "run")


class Steep(gym.Env):
    """Its rewards are finite, but no float32."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1e39, False, False, {}


def test_a_loss_that_is_not_finite_stops_the_run_whatever_the_gradient():
    # A clipped error: its gradient is 1, however large the loss.
    agent = retain.DQN(Steep, hidden=(8,), learning_starts=20, batch_size=8, huber=1.0)
    before = {name: x.clone() for name, x in agent.policy.state_dict().items()}
    with pytest.raises(NonFiniteError, match="critic_loss is not finite"):
        agent.learn(200)
    assert all(torch.equal(x, before[name]) for name, x in agent.policy.state_dict().items())


def test_the_status_of_such_a_run_is_one(tmp_path, capsys, monkeypatch):
    gym.register("AlwaysUnusable-v0", lambda: kind("start")())
    monkeypatch.setattr(Breaks, "reset", lambda self, *, seed=None, options=None: (
        setattr(self, "t", 0) or setattr(self, "seed", 1) or self.answer(), {}))  # fmt: skip
    assert run(["train", "ppo", "--env", "AlwaysUnusable-v0", "--num-envs", "2", "--num-steps",
                "16", "--batch-size", "32", "--steps", "999", "--out", str(tmp_path / "r")]) == 1  # fmt: skip
    assert "the action mask allows no action" in capsys.readouterr().err.splitlines()[-1]
