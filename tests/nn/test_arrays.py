"""Acting in NumPy is the policy's forward, up to rounding, and only where it can be."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.errors import RetainError
from retain.nn.actor_critic import ActorCritic, ActorCriticConfig
from retain.nn.arrays import ArrayActor

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


@pytest.mark.parametrize("observations", [VECTOR, DOUBLES])
@pytest.mark.parametrize("normalise_obs", [False, True])
@pytest.mark.parametrize(
    ("actions", "settings"),
    [
        (DISCRETE, {}),
        (DISCRETE, {"activation": "relu", "hidden": (8,), "encoder_hidden": (16, 7)}),
        (BOX, {"hidden": ()}),
        (BOX, {"squash": True, "log_std_init": -1.0}),
        (BOX, {"scale_actions": True, "separate_memory": True, "encoder_hidden": (9,)}),
    ],
)
def test_scores_are_those_of_the_forward(observations, normalise_obs, actions, settings):
    policy = made(observations, actions, normalise_obs=normalise_obs, **settings)
    acts = ArrayActor.of(policy, observations, 6)
    obs = (torch.randn(1, 6, 5) * 3).to(torch.from_numpy(np.empty(0, observations.dtype)).dtype)
    noise = acts.draw(1, 6, torch.Generator().manual_seed(1))
    scores = np.empty(noise.shape[1:], np.float32)
    chosen = acts.act(obs[0].numpy(), noise[0], scores)
    with torch.inference_mode():
        dist, _, _ = policy(policy.prepare(obs), policy.initial_carry(6), torch.zeros(1, 6).bool())
    theirs = dist.logits[0] if actions is DISCRETE else dist.mean[0]
    np.testing.assert_allclose(scores, theirs, rtol=1e-5, atol=1e-5)
    assert acts.agrees(scores[None], dist)
    assert not acts.agrees(scores[None] + 0.1 * np.abs(scores).max(), dist)
    if actions is DISCRETE:
        assert (chosen == (scores - noise[0]).argmax(-1)).all()
        assert chosen.dtype == np.int64
    else:
        np.testing.assert_allclose(chosen, scores + noise[0])


def test_actions_have_the_distribution_of_the_policy():
    policy, rows = made(), 40_000
    acts = ArrayActor.of(policy, VECTOR, rows)
    obs = np.tile(np.float32([0.2, -1.0, 0.5, 0.1, 0.3]), (rows, 1))
    noise = acts.draw(1, rows, torch.Generator().manual_seed(1))[0]
    scores = np.empty((rows, 3), np.float32)
    share = np.bincount(acts.act(obs, noise, scores), minlength=3) / rows
    chance = torch.softmax(torch.from_numpy(scores[0]), 0).numpy()
    assert np.abs(share - chance).max() < 0.01
    policy = made(actions=BOX, log_std_init=0.5)
    acts = ArrayActor.of(policy, VECTOR, rows)
    noise = acts.draw(1, rows, torch.Generator().manual_seed(1))[0]
    scores = np.empty((rows, 2), np.float32)
    chosen = acts.act(obs, noise, scores)
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
        (VECTOR, DISCRETE, {"memory": "lstm"}),
        (VECTOR, DISCRETE, {"memory": "window"}),
        (VECTOR, DISCRETE, {"previous_action": True}),
        (VECTOR, DISCRETE, {"previous_reward": True}),
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


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_a_segment_is_what_the_forward_says_of_it_in_every_group(env):
    agent = retain.PPO(env, **PLAIN, workers=2, env_groups=2, normalise_obs=True)
    agent.learn(256)
    rollout, policy = agent.collector.collect(32), agent.policy
    with torch.inference_mode():
        dist, value, _ = policy(policy.prepare(rollout.obs), ((),), rollout.reset)
        torch.testing.assert_close(rollout.log_prob, dist.log_prob(rollout.action))
    torch.testing.assert_close(rollout.value, value)
    first, second = rollout.action[:, :2], rollout.action[:, 2:]
    assert not torch.equal(first, second)  # each group has noise of its own


def test_a_difference_between_acting_and_the_forward_stops_the_run(monkeypatch):
    act = ArrayActor.act

    def wrong(self, obs, noise, scores):
        chosen = act(self, obs, noise, scores)
        scores += 0.01 * np.abs(scores).max() + 0.01
        return chosen

    agent = retain.PPO("CartPole-v1", **PLAIN)
    agent.collector.collect(32)
    monkeypatch.setattr(ArrayActor, "act", wrong)
    with pytest.raises(RetainError, match="chosen by other scores"):
        agent.collector.collect(32)
