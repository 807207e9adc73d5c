"""The Python API: act, predict, evaluate, save, load."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import retain
from retain.errors import CheckpointError, UsageError
from retain.train.spaces import space_from_json, space_to_json

PLAIN = {"num_envs": 4, "num_steps": 32, "batch_size": 64}
SMALL = PLAIN | {"memory_hidden": 16}


@pytest.fixture(scope="module")
def trained():
    return retain.PPO("CartPoleNoVel-v1", memory="lstm", seed=1, normalise_obs=True, **SMALL).learn(
        2000
    )


@pytest.mark.parametrize("memory", ["none", "lstm", "gru"])
def test_act_equals_the_training_forward(memory):
    settings = SMALL | {"memory": memory, "seed": 2, "use_sde": False, "previous_action": False,
                        "sequence_length": None}  # fmt: skip
    agent = retain.PPO("PendulumNoVel-v1", **retain.PPO.useful(settings))
    agent.learn(300)
    rollout = agent.collector.collect(32)
    dist, _, _ = agent.policy(agent.policy.prepare(rollout.obs), rollout.carries[0], rollout.reset)
    carry = (rollout.carries[0], agent.initial_carry(4)[1])
    for t in range(32):
        action, carry = agent.act(
            rollout.obs[t].numpy(), carry, rollout.reset[t].numpy(), deterministic=True
        )
        expected = dist.mode()[t].detach().numpy().clip(-2, 2)
        np.testing.assert_allclose(action, expected, atol=1e-6)


def test_act_takes_one_observation_or_a_batch(trained):
    env = gym.make("CartPoleNoVel-v1")
    obs, _ = env.reset(seed=0)
    carry = trained.initial_carry()
    action, carry = trained.act(obs, carry, reset=True, deterministic=True)
    assert env.action_space.contains(action)
    batch, _ = trained.act(np.stack([obs, obs]), None, deterministic=True)
    assert batch.tolist() == [action, action]
    with pytest.raises(UsageError, match="carry is for 1 environments, but obs holds 2"):
        trained.act(np.stack([obs, obs]), carry)
    with pytest.raises(UsageError, match=r"observation of shape \(3,\) \(expected \(2,\)"):
        trained.act(np.zeros(3))


def test_a_reset_in_act_forgets_exactly(trained):
    obs = np.array([0.1, -0.05], dtype=np.float32)
    fresh, fresh_carry = trained.act(obs, None, deterministic=True)
    used = trained.initial_carry()
    for _ in range(5):
        _, used = trained.act(np.random.default_rng(0).normal(size=2), used)
    again, again_carry = trained.act(obs, used, reset=True, deterministic=True)
    assert fresh == again
    for one, other in zip(_leaves(fresh_carry), _leaves(again_carry), strict=True):
        assert torch.equal(one, other)


def _leaves(tree):
    from retain.types import tree_leaves

    return tree_leaves(tree)


def test_stable_baselines3_evaluates_it_unchanged(trained):
    for env in (gym.make("CartPoleNoVel-v1"), make_vec_env("CartPoleNoVel-v1", n_envs=3, seed=0)):
        mean, _ = evaluate_policy(trained, env, n_eval_episodes=6, warn=False)
        assert 8 <= mean <= 500


def test_predict_carries_the_state_and_clears_it_at_episode_starts(trained):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(6, 3, 2)).astype(np.float32)
    starts = np.zeros((6, 3), dtype=bool)
    starts[0] = starts[3, 1] = True
    state, carry = None, None
    for t in range(6):
        action, state = trained.predict(obs[t], state, starts[t], deterministic=True)
        expected, carry = trained.act(obs[t], carry, starts[t] if t else True, deterministic=True)
        assert np.array_equal(action, expected)
        for ours, theirs in zip(state, _leaves(carry), strict=True):
            assert np.array_equal(ours, theirs.numpy())
    plain = retain.PPO("CartPole-v1", **PLAIN)
    assert plain.predict(np.zeros(4))[1] is None


def test_loaded_agent_acts_the_same(trained, tmp_path):
    trained.save(tmp_path / "agent")
    again = retain.load(tmp_path / "agent")
    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    one, _ = trained.act(obs, None, deterministic=True)
    two, _ = again.act(obs, None, deterministic=True)
    assert np.array_equal(one, two)
    for name, value in trained.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[name])
    assert again.config == trained.config
    assert again.evaluate(3, seed=5) == trained.evaluate(3, seed=5)


def test_evaluation_leaves_training_untouched():
    one, two = (
        retain.PPO("CartPoleNoVel-v1", memory="gru", seed=3, normalise_obs=True, **SMALL)
        for _ in range(2)
    )
    for _ in range(2):
        one.learn(128)
        one.evaluate(3)
        two.learn(128)
    for name, value in one.policy.state_dict().items():
        assert torch.equal(value, two.policy.state_dict()[name]), name


def test_evaluation_plays_as_many_whole_episodes_as_asked(trained):
    result = trained.evaluate(21)
    assert result.episodes == len(result.returns) == 21
    assert result.return_mean == pytest.approx(np.mean(result.returns))
    assert result.length_mean == pytest.approx(result.return_mean)  # one reward a step
    with pytest.raises(UsageError, match="episodes is 0"):
        trained.evaluate(0)


def test_agents_of_one_seed_are_identical_and_leave_torchs_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two = (retain.PPO("CartPole-v1", seed=9, **PLAIN).learn(256) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    other = retain.PPO("CartPole-v1", seed=10, **PLAIN).learn(256)
    assert all(torch.equal(a, b) for a, b in
               zip(one.policy.parameters(), two.policy.parameters(), strict=True))  # fmt: skip
    assert not all(torch.equal(a, b) for a, b in
                   zip(one.policy.parameters(), other.policy.parameters(), strict=True))  # fmt: skip


def test_native_and_gymnasium_backends_train_identically():
    one, two = (
        retain.PPO("CartPoleNoVel-v1", memory="lstm", native=native, **SMALL).learn(600)
        for native in (True, False)
    )
    for name, value in one.policy.state_dict().items():
        assert torch.equal(value, two.policy.state_dict()[name]), name


class Everything(gym.Env):
    """Dict observation with an image, a mask and numbers; the reward pays the unmasked action."""

    observation_space = gym.spaces.Dict(
        {
            "image": gym.spaces.Box(0, 255, (36, 36, 3), np.uint8),
            "count": gym.spaces.Discrete(5),
            "action_mask": gym.spaces.MultiBinary(3),
        }
    )
    action_space = gym.spaces.Discrete(3)

    def _observe(self):
        mask = np.zeros(3, np.int8)
        mask[self.allowed] = 1
        image = np.full((36, 36, 3), 50 * self.t % 256, np.uint8)
        return {"image": image, "count": self.t % 5, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.allowed = 0, [0, 2]
        return self._observe(), {}

    def step(self, action):
        assert action in self.allowed, "a masked action was chosen"
        self.t += 1
        self.allowed = [self.t % 3]
        return self._observe(), 1.0, self.t == 7, False, {}


def test_images_masks_and_dict_observations_train_and_act():
    agent = retain.PPO(Everything, memory="gru", **(SMALL | {"num_steps": 16, "num_envs": 2,
                       "batch_size": 16, "epochs": 1}))  # fmt: skip
    agent.learn(64)
    rollout = agent.collector.collect(16)
    assert rollout.obs["image"].dtype == torch.uint8
    assert agent.evaluate(2).return_mean == 7.0


class Wide(gym.Env):
    """MultiDiscrete or MultiBinary actions."""

    observation_space = gym.spaces.Box(-1, 1, (2,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.low, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        return self.observation_space.low, float(np.sum(action)), False, self.t == 9, {}


@pytest.mark.parametrize(
    "space",
    [gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiBinary(3), gym.spaces.Discrete(3, start=4)],
)
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_every_discrete_action_space_trains(space, memory, tmp_path):
    agent = retain.PPO(lambda: Wide(space), memory=memory, previous_action=True,
                       **(PLAIN | {"learning_rate": 1e-3}))  # fmt: skip
    agent.learn(256)
    agent.save(tmp_path / "a")
    again = retain.load(tmp_path / "a", env=lambda: Wide(space))
    assert again.action_space == space
    again.learn(128)
    assert again.evaluate(2).episodes == 2


def test_an_agent_of_a_callable_says_what_it_needs(tmp_path):
    agent = retain.PPO(lambda: Wide(gym.spaces.MultiBinary(2)), **PLAIN)
    agent.save(tmp_path / "a")
    again = retain.load(tmp_path / "a")
    assert again.act(np.zeros(2), None)[0].shape == (2,)  # acting needs no environment
    with pytest.raises(UsageError, match=r"env=\.\.\."):
        again.learn(10)
    with pytest.raises(UsageError, match=r"env=\.\.\."):
        again.evaluate(1)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-1, np.inf, (2, 3), np.float32),
        gym.spaces.Box(np.array([0, -np.inf]), np.array([1, 5.5]), dtype=np.float64),
        gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
        gym.spaces.Discrete(4, start=-2),
        gym.spaces.MultiDiscrete([2, 5]),
        gym.spaces.MultiBinary(3),
        gym.spaces.Dict({"a": gym.spaces.Discrete(2), "b": gym.spaces.Box(0, 1, (1,))}),
    ],
    ids=str,
)
def test_spaces_survive_json(space):
    import json

    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memry": "lstm"}, "unknown config field 'memry'; did you mean 'memory'"),
        ({"memory": "lstn"}, "unknown memory 'lstn'; did you mean 'lstm'"),
        ({"epochs": 2.5}, "epochs is 2.5 .expected int"),
        ({"squash": True}, "squash needs Box actions"),
        ({"hidden": (64, "a")}, "hidden is"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_clear_line(settings, message):
    with pytest.raises(UsageError, match=message):
        retain.PPO("CartPole-v1", **settings)


def test_loading_what_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        retain.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        retain.load(tmp_path)


def test_the_same_seed_gives_the_same_weights_for_any_number_of_threads():
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        agent = retain.PPO("CartPole-v1", seed=7, hidden=(256, 256))
        found.append({name: x.clone() for name, x in agent.policy.state_dict().items()})
    torch.set_num_threads(before)
    assert all(torch.equal(x, found[1][name]) for name, x in found[0].items())
