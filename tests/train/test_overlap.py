"""Collecting ahead: the next segment by older parameters, and the same numbers every time."""

import copy
import time

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.algos import ahead
from retain.errors import UsageError

SMALL = {"num_envs": 4, "num_steps": 16, "batch_size": 32, "preset": "none", "overlap": True}
SEGMENT = 4 * 16


def weights(agent):
    return torch.cat([p.detach().flatten() for p in agent.policy.parameters()])


@pytest.mark.parametrize(
    ("kind", "env", "settings"),
    [
        (retain.PPO, "CartPole-v1", {}),
        (retain.PPO, "CartPole-v1", {"normalise_obs": True, "lr_schedule": "linear"}),
        (retain.PPO, "CartPoleNoVel-v1", {"memory": "lstm", "sequence_length": 8}),
        (retain.PPO, "CartPoleNoVel-v1", {"memory": "gru", "previous_action": True,
                                          "previous_reward": True, "env_groups": 2}),
        (retain.PPO, "CartPole-v1", {"shards": 2}),
        (retain.VTrace, "PendulumNoVel-v1", {"memory": "attention", "window": 8,
                                             "sequence_length": 8}),
    ],
)  # fmt: skip
def test_a_saved_run_goes_on_with_the_segment_that_was_collected_ahead(
    kind, env, settings, tmp_path
):
    whole = kind(env, **SMALL | settings).learn(5 * SEGMENT)
    first = kind(env, **SMALL | settings).learn(3 * SEGMENT, of=5 * SEGMENT)
    first.save(tmp_path / "saved")
    second = retain.load(tmp_path / "saved").learn(2 * SEGMENT, of=5 * SEGMENT)
    assert whole.steps == second.steps == 5 * SEGMENT
    assert torch.equal(weights(whole), weights(second))


class Parts(gym.Env):
    """A Dict of two vectors, one with a dot in its name."""

    observation_space = gym.spaces.Dict(
        {name: gym.spaces.Box(-1, 1, (2,), np.float32) for name in ("b", "a.1")}
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, True, {}


def test_a_dict_of_observations_comes_back_too():
    agent = retain.PPO(Parts, **SMALL).learn(SEGMENT)
    (rollout,) = agent.update.ahead.ready
    again = type(rollout).of(rollout.tensors(), agent.policy.initial_carry(1))
    assert set(again.obs) == {"a.1", "b"}
    assert all(torch.equal(again.obs[key], rollout.obs[key]) for key in rollout.obs)


def spans(agent, monkeypatch, slow=""):
    """Lists that receive when each segment was collected, and when each was learned from."""
    found = {"collecting": [], "updating": []}

    def timed(name, function):
        def run(*arguments):
            began = time.monotonic()
            time.sleep(0.1 * (name == slow))
            result = function(*arguments)
            found[name].append((began, time.monotonic()))
            return result

        return run

    monkeypatch.setattr(ahead, "_collect", timed("collecting", ahead._collect))
    monkeypatch.setattr(agent.update, "update", timed("updating", agent.update.update))
    return found["collecting"], found["updating"]


def together(one, other):
    return one[0] < other[1] and other[0] < one[1]


@pytest.mark.parametrize("slow", ["collecting", "updating"])
def test_it_does_not_matter_who_is_first(slow, monkeypatch):
    """Nor that the two run at the same time."""
    usual = retain.PPO("CartPoleNoVel-v1", memory="lstm", **SMALL).learn(4 * SEGMENT)
    agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", **SMALL)
    collected, learned = spans(agent, monkeypatch, slow)
    agent.learn(4 * SEGMENT)
    assert torch.equal(weights(agent), weights(usual))
    assert not together(collected[0], learned[0])  # there was nothing to learn from
    assert all(map(together, collected[1:], learned))


def test_a_graph_is_made_while_nothing_is_collected(monkeypatch, tmp_path):
    """In every process anew."""
    retain.PPO("CartPole-v1", **SMALL).learn(2 * SEGMENT).save(tmp_path / "saved")
    agent = retain.load(tmp_path / "saved")
    object.__setattr__(agent.config, "compile", True)
    collected, learned = spans(agent, monkeypatch, "updating")
    agent.learn(2 * SEGMENT)
    assert not together(collected[0], learned[0])
    assert together(collected[1], learned[1])


def test_a_segment_is_acted_by_the_parameters_before_the_last_update(monkeypatch):
    agent = retain.PPO("CartPole-v1", learning_rate=0.01, **SMALL)
    update, seen = agent.update.update, []

    def watch(rollouts, progress):
        seen.append((copy.deepcopy(agent.policy), rollouts[0], progress))
        return update(rollouts, progress)

    monkeypatch.setattr(agent.update, "update", watch)
    agent.learn(5 * SEGMENT)
    assert [progress for _, _, progress in seen] == pytest.approx([0, 0.2, 0.4, 0.6])
    for number in range(1, len(seen)):
        acting, rollout, now = seen[number - 1][0], seen[number][1], seen[number][0]
        for policy, same in ((acting, True), (now, False)):
            with torch.no_grad():
                carry = policy.initial_carry(4)
                value = policy(policy.prepare(rollout.obs), carry, rollout.reset)[1]
            assert torch.allclose(value, rollout.value, atol=1e-5) == same


def test_without_learning_the_segments_are_those_of_a_run_that_does_not_overlap():
    found = {}
    for overlap in (False, True):
        agent = retain.PPO(
            "CartPoleNoVel-v1", memory="lstm", learning_rate=0.0, **SMALL | {"overlap": overlap}
        )
        for _ in range(4 - overlap):
            row = agent.iterate(lambda: 0.0)
        found[overlap] = [episode.ret for episode in agent.collector.statistics.recent]
    assert found[True]
    assert found[True] == found[False]
    assert row["stale_log_ratio"] < 1e-5
    assert "first_log_ratio" not in row


def test_a_failure_while_collecting_is_raised(monkeypatch):
    agent = retain.PPO("CartPole-v1", **SMALL).learn(SEGMENT)

    def failing(*arguments):
        raise UsageError("the simulator is gone")

    monkeypatch.setattr(ahead, "_collect", failing)
    with pytest.raises(UsageError, match="the simulator is gone"):
        agent.learn(SEGMENT)


@pytest.mark.parametrize("kind", [retain.A2C, retain.PQN])
def test_a_loss_that_does_not_correct_for_older_actions_is_refused(kind):
    line = f"overlap is on, but the loss of {kind.__name__.lower()} takes every action"
    with pytest.raises(UsageError, match=line):
        kind("CartPole-v1", preset="none", overlap=True)
