"""Acting in NumPy is the policy's forward, up to rounding, and only where it can be."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from retain.memory import LSTM
from retain.nn.actor_critic import ActorCritic, ActorCriticConfig
from retain.nn.arrays import ArrayActor

VECTOR = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)
DOUBLES = gym.spaces.Box(-np.inf, np.inf, (5,), np.float64)
BOX = gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 4]))
DISCRETE = gym.spaces.Discrete(3, start=2)


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
