"""Acting in NumPy is the policy's forward, up to rounding, and only where it can be."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.errors import RetainError
from retain.memory import LSTM
from retain.nn import arrays
from retain.nn.actor_critic import ActorCritic, ActorCriticConfig
from retain.nn.arrays import ArrayActor
from retain.types import tree_leaves, tree_map

VECTOR = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)
DOUBLES = gym.spaces.Box(-np.inf, np.inf, (5,), np.float64)
BOX = gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 4]))
DISCRETE = gym.spaces.Discrete(3, start=2)
PLAIN = {"preset": "none", "num_steps": 32, "num_envs": 4, "seed": 3}


def made(observations=VECTOR, actions=DISCRETE, **settings):
    torch.manual_seed(0)
    policy = ActorCritic(observations, actions, ActorCriticConfig(**settings))
    with torch.no_grad():
        for parameter in policy.parameters():  # so that no score is near 0
            parameter.add_(torch.randn_like(parameter) * 0.3)
    if policy.normaliser is not None:
        policy.normaliser.update(torch.randn(1, 50, 5, dtype=torch.float64) * 3 + 2)
    return policy


def unrolled(policy, acts, obs, reset, carry=None):
    """Scores of T steps with the actions chosen from them, and the forward's distribution."""
    T, B = reset.shape
    carry = policy.initial_carry(B) if carry is None else carry
    noise = acts.draw(T, B, torch.Generator().manual_seed(1))
    scores = np.empty(noise.shape, np.float32)
    first = torch.zeros(B, *policy.event_shape, dtype=policy.action_dtype).numpy()
    acted, reward = [first], torch.randn(T, B, generator=torch.Generator().manual_seed(2))
    acts.load(carry)
    for t in range(T):
        row = obs[t].numpy(), reset[t].numpy(), acted[-1], reward[t].numpy()
        acted.append(acts.act(*row, noise[t], scores[t]))
    previous = torch.from_numpy(np.stack(acted[:-1]))
    previous = () if not policy.config.reads_action and not policy.config.reads_reward else (
        previous, reward)  # fmt: skip
    with torch.inference_mode():
        dist, _, carry = policy(policy.prepare(obs), carry, reset, *previous)
    return scores, dist, carry, noise, np.stack(acted[1:])


BOTH = {"previous_action": True, "previous_reward": True}
MEMORIES = [
    {"memory": "lstm", "memory_hidden": 16},
    {"memory": "gru", "memory_hidden": 16, **BOTH},
    {"memory": "lstm", "memory_hidden": 8, "memory_layers": 2, "shortcut": True, **BOTH},
    {"memory": "gru", "memory_hidden": 8, "memory_layers": 2, "separate_memory": True},
    {"memory": "lstm", "memory_options": ("chrono=50",), "encoder_hidden": (9,)},
    {"memory": "mingru", "memory_hidden": 16, **BOTH},
    {"memory": "mingru", "memory_hidden": 8, "memory_layers": 2, "memory_options": ("kernel=1",)},
    {"memory": "lru", "memory_hidden": 16, "memory_options": ("states=6",)},
    {"memory": "lru", "memory_hidden": 8, "memory_layers": 3, "shortcut": True},
]


@pytest.mark.parametrize("observations", [VECTOR, DOUBLES])
@pytest.mark.parametrize("normalise_obs", [False, True])
@pytest.mark.parametrize(
    ("actions", "settings"),
    [
        (DISCRETE, {}),
        (DISCRETE, {"activation": "relu", "hidden": (8,), "encoder_hidden": (16, 7)}),
        (BOX, {"hidden": ()}),
        (BOX, {"squash": True, "log_std_init": -1.0, **BOTH}),
        (BOX, {"scale_actions": True, "separate_memory": True, "encoder_hidden": (9,)}),
        *((actions, settings) for settings in MEMORIES for actions in (DISCRETE, BOX)),
    ],
)
def test_scores_are_those_of_the_forward(observations, normalise_obs, actions, settings):
    policy = made(observations, actions, normalise_obs=normalise_obs, **settings)
    acts = ArrayActor.of(policy, observations, 6)
    obs = (torch.randn(9, 6, 5) * 3).to(torch.from_numpy(np.empty(0, observations.dtype)).dtype)
    reset = torch.rand(9, 6) < 0.3
    scores, dist, carry, noise, chosen = unrolled(policy, acts, obs, reset)
    theirs = dist.logits if actions is DISCRETE else dist.mean
    np.testing.assert_allclose(scores, theirs, rtol=1e-4, atol=1e-4)
    assert acts.agrees(scores, dist)
    assert not acts.agrees(scores + 0.1 * np.abs(scores).max(), dist)
    if actions is DISCRETE:
        assert (chosen == (scores - noise).argmax(-1)).all()
        assert chosen.dtype == np.int64
    else:
        np.testing.assert_allclose(chosen, scores + noise)
    again = unrolled(policy, acts, obs, reset)[0]  # whatever was before
    np.testing.assert_array_equal(again, scores)
    scores, dist, *_ = unrolled(policy, acts, obs, reset & False, carry)  # goes on from there
    theirs = dist.logits if actions is DISCRETE else dist.mean
    np.testing.assert_allclose(scores, theirs, rtol=1e-4, atol=1e-4)


def test_actions_have_the_distribution_of_the_policy():
    policy, rows = made(), 40_000
    acts = ArrayActor.of(policy, VECTOR, rows)
    obs = np.tile(np.float32([0.2, -1.0, 0.5, 0.1, 0.3]), (rows, 1))
    noise = acts.draw(1, rows, torch.Generator().manual_seed(1))[0]
    scores = np.empty((rows, 3), np.float32)
    rest = np.zeros(rows, bool), np.zeros(rows, np.int64), np.zeros(rows, np.float32)
    share = np.bincount(acts.act(obs, *rest, noise, scores), minlength=3) / rows
    chance = torch.softmax(torch.from_numpy(scores[0]), 0).numpy()
    assert np.abs(share - chance).max() < 0.01
    policy = made(actions=BOX, log_std_init=0.5)
    acts = ArrayActor.of(policy, VECTOR, rows)
    noise = acts.draw(1, rows, torch.Generator().manual_seed(1))[0]
    scores = np.empty((rows, 2), np.float32)
    chosen = acts.act(obs, *rest, noise, scores)
    std = policy.head.log_std.exp().detach().numpy()
    np.testing.assert_allclose(chosen.mean(0), scores[0], atol=0.05)
    np.testing.assert_allclose(chosen.std(0), std, rtol=0.03)


def test_whatever_is_not_exactly_known_acts_with_its_forward():
    class Other(ActorCritic):
        """Whose forward may be anything."""

    assert ArrayActor.of(made(), VECTOR, 2) is not None
    torch.manual_seed(0)
    assert ArrayActor.of(Other(VECTOR, DISCRETE, ActorCriticConfig()), VECTOR, 2) is None
    several = gym.spaces.MultiDiscrete([2, 3])
    numbers = gym.spaces.Box(0, 9, (5,), np.int64)
    both = gym.spaces.Dict(a=VECTOR, action_mask=gym.spaces.MultiBinary(3))
    for observations, actions, settings in (
        (VECTOR, DISCRETE, {"memory": "attention"}),
        (VECTOR, DISCRETE, {"memory": "window"}),
        (VECTOR, DISCRETE, {"activation": "elu"}),
        (VECTOR, BOX, {"use_sde": True}),
        (VECTOR, several, {}),
        (gym.spaces.Discrete(4), DISCRETE, {}),
        (gym.spaces.Box(0, 255, (5,), np.uint8), DISCRETE, {}),
        (gym.spaces.Box(0, 255, (8, 8, 1), np.uint8), DISCRETE, {}),
        (gym.spaces.Box(-1, 1, (2, 2)), DISCRETE, {}),
        (numbers, DISCRETE, {}),
        (both, DISCRETE, {}),
    ):
        assert ArrayActor.of(made(observations, actions, **settings), observations, 2) is None


class Half(LSTM):
    """A stranger's recurrence."""

    def forward(self, x, carry, reset):
        out, carry = super().forward(x, carry, reset)
        return 0.5 * out, carry


def test_a_memory_derived_from_ours_acts_with_its_own_forward():
    assert LSTM(3, 4).array_step(2) is not None
    assert Half(3, 4).array_step(2) is None


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
