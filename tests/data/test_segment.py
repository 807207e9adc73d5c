"""A segment in which arrays act holds what the forward says of it."""

import numpy as np
import pytest
import torch
from torch import nn

import retain
from retain.errors import RetainError
from retain.nn import arrays
from retain.nn.arrays import ArrayActor
from retain.types import tree_leaves, tree_map

PLAIN = {"preset": "none", "num_steps": 32, "num_envs": 4, "seed": 3}
BOTH = {"previous_action": True, "previous_reward": True}


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize(
    "settings",
    [
        {"memory": "none"},
        {"memory": "lstm"},
        {"memory": "lstm", "sequence_length": 10, "separate_memory": True, **BOTH},
        {"memory": "gru", "sequence_length": 40, "shortcut": True, **BOTH},
        {"memory": "mingru", "sequence_length": 40, **BOTH},
        {"memory": "lru", "sequence_length": 16},
    ],
)
def test_a_segment_is_what_the_forward_says_of_it_in_every_group(env, settings, monkeypatch):
    """Among its steps are ends, cuts between two pieces, and stored carries."""
    monkeypatch.setattr(arrays, "TOLERANCE", 1e-5)
    settings = {**PLAIN, **settings, "num_steps": 80, "time_limit": 9, "batch_size": 160}
    agent = retain.PPO(env, **settings, workers=2, env_groups=2, normalise_obs=True)
    policy, chunk = agent.policy, agent.config.sequence_length or 80
    with torch.no_grad():
        policy.head.linear.weight.mul_(30)  # so that scores are not all near 0
    for _ in range(2):
        before = [stream.carry for stream in agent.collector.streams]
        rollout = agent.collector.collect(80)
        both = rollout.previous_action, rollout.previous_reward
        carry = tree_map(lambda *x: torch.cat(x), *before)
        with torch.inference_mode():
            dist, value, after = policy(
                policy.prepare(rollout.obs), carry, rollout.reset,
                *(x for x in both if x is not None),
            )  # fmt: skip
            log_prob = dist.log_prob(rollout.action)
        close = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(rollout.log_prob, log_prob, **close)
        torch.testing.assert_close(rollout.value, value, **close)
        for mine, theirs in zip(tree_leaves(rollout.carry_out), tree_leaves(after), strict=True):
            torch.testing.assert_close(mine, theirs, **close)
        for leaf, start in zip(tree_leaves(rollout.carries), tree_leaves(carry), strict=False):
            torch.testing.assert_close(leaf[:4].view_as(start), start)
        inner = ~(rollout.terminated | rollout.truncated)[:-1]
        assert torch.equal(rollout.next_value[:-1][inner], rollout.value[1:][inner])
        assert rollout.truncated.any()
        if policy.recurrent:
            assert len(rollout.carries) == 80 // chunk
        if both[0] is not None:
            assert torch.equal(both[0][1:], rollout.action[:-1])
            assert torch.equal(both[1][1:], rollout.reward[:-1])
    first, second = rollout.action[:, :2], rollout.action[:, 2:]
    assert not torch.equal(first, second)  # each group has noise of its own


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_numbers_are_those_of_acting_with_the_forward(memory, monkeypatch):
    """Carries, values and next values at cuts and ends, beside the other kind of segment."""
    settings = {**PLAIN, "num_steps": 80, "memory": memory, "time_limit": 9}
    settings |= BOTH | ({"sequence_length": 16} if memory == "lstm" else {})
    quick = retain.PPO("CartPole-v1", **settings).collector.collect(80)
    agent = retain.PPO("CartPole-v1", **settings)
    actions = iter(quick.action)
    monkeypatch.setattr(ArrayActor, "of", classmethod(lambda *_: None))
    monkeypatch.setattr(
        type(agent.policy.head), "sample", lambda *_: next(actions).clone().unsqueeze(0)
    )
    slow = agent.collector.collect(80)
    for name in ("obs", "action", "reward", "reset", "terminated", "truncated"):
        assert torch.equal(getattr(quick, name), getattr(slow, name))
    for name in ("log_prob", "value", "next_value", "previous_action", "previous_reward"):
        ours, theirs = getattr(quick, name), getattr(slow, name)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for name in ("carries", "carry_out"):
        ours, theirs = (tree_leaves(getattr(x, name)) for x in (quick, slow))
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_difference_between_acting_and_the_forward_stops_the_run(monkeypatch):
    act = ArrayActor.act

    def wrong(self, *inputs):
        chosen = act(self, *inputs)
        inputs[-1][:] += 0.02 * np.abs(inputs[-1]).max() + 0.02
        return chosen

    agent = retain.PPO("CartPole-v1", **PLAIN)
    agent.collector.collect(32)
    monkeypatch.setattr(ArrayActor, "act", wrong)
    with pytest.raises(RetainError, match="chosen by other scores"):
        agent.collector.collect(32)


class Fading(retain.StepMemory):
    """A stranger's memory with a step in NumPy."""

    def __init__(self, features_in, hidden, rate=0.1):
        super().__init__()
        self.features_in, self.features, self.rate = features_in, hidden, rate
        self.read = nn.Linear(features_in, hidden)

    def initial_carry(self, batch_size):
        return torch.zeros(batch_size, self.features)

    def step(self, x, carry):
        carry = carry + self.rate * (torch.tanh(self.read(x)) - carry)
        return carry, carry

    def array_step(self, rows):
        return FadingArrays(self)


class FadingArrays:
    """Its step."""

    def __init__(self, memory):
        self.weight, self.bias = (x.detach().numpy() for x in memory.read.parameters())
        self.rate = memory.rate

    def load(self, leaves):
        self.state = leaves[0].numpy().copy()

    def step(self, x, reset):
        self.state[reset] = 0
        self.state += self.rate * (np.tanh(x @ self.weight.T + self.bias) - self.state)
        return self.state


class Wrong(Fading):
    """Its step forgets the resets."""

    def array_step(self, rows):
        made = FadingArrays(self)
        step = made.step
        made.step = lambda x, reset: step(x, reset & False)
        return made


def test_a_strangers_memory_acts_with_its_step_in_numpy():
    assert retain.doctor.check_memory(Fading(3, 5))
    agent = retain.PPO("CartPoleNoVel-v1", **PLAIN, memory=Fading, normalise_obs=True)
    assert ArrayActor.of(agent.policy, agent.observation_space, 4) is not None
    agent.learn(512)


def test_a_step_in_numpy_that_differs_is_named_by_the_doctor_and_stops_a_run():
    with pytest.raises(AssertionError, match="step in NumPy is its forward"):
        retain.doctor.check_memory(Wrong(3, 5))
    agent = retain.PPO("CartPoleNoVel-v1", **PLAIN, memory=Wrong)
    with torch.no_grad():
        agent.policy.head.linear.weight.mul_(30)
    with pytest.raises(RetainError, match=r"Wrong\.array_step must equal Wrong\.forward"):
        agent.learn(512)
