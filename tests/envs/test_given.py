"""Environments as objects: what a user may hand over, and one clear line for what cannot work."""

import gymnasium as gym
import numpy as np
import pytest
from counting import Count, parameters
from gymnasium.utils import RecordConstructorArgs

import retain
from retain.envs.given import Copies, given
from retain.envs.make import make, make_single
from retain.errors import Notice, UsageError

TINY = {"num_steps": 16, "batch_size": 32, "epochs": 1}


class Halved(gym.RewardWrapper, RecordConstructorArgs):
    def __init__(self, env, by=2):
        RecordConstructorArgs.__init__(self, by=by)
        gym.RewardWrapper.__init__(self, env)
        self.by = by

    def reward(self, reward):
        return reward / self.by


class Silent(gym.Wrapper):
    """Records no arguments, so gymnasium cannot make it again."""


def test_an_instance_trains_as_its_id_does():
    settings = TINY | {"num_envs": 2, "seed": 5}
    one = retain.PPO("CartPole-v1", **settings).learn(64)
    two = retain.PPO(gym.make("CartPole-v1", render_mode="rgb_array"), **settings).learn(64)
    assert two.env == "CartPole-v1"  # and so the command line resumes it
    assert (parameters(one) == parameters(two)).all()


def test_an_instances_arguments_come_along():
    env, settings = given(gym.make("CartPole-v1", sutton_barto_reward=True), {})
    assert (env, settings) == ("CartPole-v1", {"env_kwargs": {"sutton_barto_reward": True}})
    agent = retain.PPO(gym.make("CartPole-v1", sutton_barto_reward=True), **TINY)
    assert agent.settings["env_kwargs"] == {"sutton_barto_reward": True}
    agent.learn(128)
    assert {episode.ret for episode in agent.collector.statistics.recent} == {-1.0}


@pytest.mark.parametrize(
    ("env", "length", "reward"),
    [
        (lambda: Halved(gym.make("CartPole-v1", max_episode_steps=5)), 5, 0.5),
        (lambda: gym.wrappers.TimeLimit(gym.make("CartPole-v1", max_episode_steps=6), 20), 6, 1.0),
        (lambda: gym.make("CartPole-v1", max_episode_steps=4), 4, 1.0),
    ],
)
def test_copies_have_the_wrappers_of_the_instance(env, length, reward):
    copies, _ = given(env(), {"num_envs": 3})
    assert isinstance(copies, Copies)
    backend = make(copies, 3)
    assert len({id(one.unwrapped) for one in backend.envs}) == 3
    backend.reset(np.ones(3, dtype=bool), np.arange(3))
    for t in range(length):
        out = backend.step(np.array([t % 2] * 3))
        assert out.reward.tolist() == [reward] * 3
    assert out.truncated.all()


def test_a_stripped_instance_is_not_given_its_time_limit_back():
    bare = gym.make("MountainCar-v0").unwrapped
    env, _ = given(bare, {})
    made = make_single(env)
    assert not isinstance(made, gym.wrappers.TimeLimit)
    assert type(made.unwrapped) is type(bare)


def test_an_instance_without_a_spec_is_the_one_environment():
    env = Count()
    agent = retain.PPO(env, **TINY).learn(32)
    assert agent.settings["num_envs"] == 1
    assert agent.backends[0].envs[0] is env
    with pytest.raises(UsageError, match=r"num_envs is 4.*second Count.*pass a callable.*lambda"):
        retain.PPO(Count(), num_envs=4)
    with pytest.raises(UsageError, match=r"its wrapper Silent is no .*RecordConstructorArgs"):
        retain.PPO(Silent(gym.make("CartPole-v1")), num_envs=4)
    with pytest.raises(UsageError, match=r"workers is 1.*Count is one object.*expected 0"):
        retain.PPO(Count(), workers=1)


def test_what_is_no_environment_is_one_clear_line():
    for wrong in (3, None, gym.spaces.Discrete(2)):
        with pytest.raises(UsageError, match=rf"env is {type(wrong).__name__} \(expected a gymn"):
            retain.PPO(wrong)
    with pytest.raises(UsageError, match="env_kwargs cannot apply: CartPole-v1 exists"):
        retain.PPO(gym.make("CartPole-v1"), env_kwargs={"sutton_barto_reward": True})
    with pytest.raises(UsageError, match=r"env_kwargs cannot be written.*pass a callable"):
        retain.PPO("CartPole-v1", env_kwargs={"space": gym.spaces.Discrete(2)})


def test_env_kwargs_reach_ids_callables_and_batches():
    agent = retain.PPO(Count, env_kwargs={"length": 3}, num_envs=2, **TINY).learn(32)
    assert {episode.length for episode in agent.collector.statistics.recent} == {3}
    suite = make("RepeatPrevious-v0", 2, agent.run_settings.env_options().__class__(
        env_kwargs={"k": 2, "suits": 3}))  # fmt: skip
    assert suite.action_space == gym.spaces.Discrete(3)
    assert gym.make("RepeatPrevious-v0", suits=3).action_space == gym.spaces.Discrete(3)
    with pytest.raises(UsageError, match=r"Count does not take env_kwargs {'size': 3}"):
        retain.PPO(Count, env_kwargs={"size": 3})
    with pytest.raises(UsageError, match=r"cannot make 'CartPole-v1'.*unexpected keyword"):
        retain.PPO("CartPole-v1", env_kwargs={"size": 3})


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("MyMaze-v0", "unknown environment 'MyMaze-v0'; if a module of yours registers it: 'module:MyMaze-v0'"),
        ("CartPol-v1", "did you mean 'CartPole-v1'.; if a module of yours"),
        ("MiniGrid-MemoryS7-v0", "did you mean 'minigrid:MiniGrid-MemoryS7-v0'"),
        ("math:Nothing-v0", "importing 'math' registers no 'Nothing-v0'"),
    ],
)  # fmt: skip
def test_an_unknown_id_gets_the_hint_that_fits(env, message, monkeypatch):
    if env.startswith("MiniGrid"):
        known = [name for name in gym.registry if name.startswith("MiniGrid")]
        for name in known:  # another test may have imported it
            monkeypatch.delitem(gym.registry, name)
    with pytest.raises(UsageError, match=message):
        make_single(env)


class Told(gym.Env):
    """Has a text among its observations, and something deeper down."""

    observation_space = gym.spaces.Dict(
        {
            "mission": gym.spaces.Text(20),
            "pair": gym.spaces.Tuple((gym.spaces.Discrete(3), gym.spaces.Text(5))),
            "seen": gym.spaces.Box(0, 1, (2,)),
        }
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._see(), {}

    def _see(self):
        seen = np.full(2, self.count / 8, np.float32)
        return {"mission": "go", "pair": (self.count % 3, "x"), "seen": seen}

    def step(self, action):
        self.count += 1
        return self._see(), 1.0, self.count >= 8, False, {}


@pytest.mark.parametrize("workers", [0, 2])
def test_entries_that_nothing_can_read_are_left_out_with_one_line(workers):
    with pytest.warns(Notice) as said:
        agent = retain.PPO(Told, num_envs=2, workers=workers, **TINY)
    assert {str(w.message) for w in said} == {
        "Told: mission, pair/1 left out of the observations, since nothing can read it"
    }
    assert list(agent.observation_space.spaces) == ["pair/0", "seen"]
    agent.learn(32)
    agent.act(Told().reset()[0])  # as the environment gives it, texts and all


def test_drop_obs_is_explicit(recwarn):
    agent = retain.PPO(Told, drop_obs=("mission", "pair"), num_envs=2, **TINY).learn(32)
    assert not [w for w in recwarn if w.category is Notice]
    assert list(agent.observation_space.spaces) == ["seen"]
    with pytest.raises(UsageError, match="unknown entry of the observation 'sen'; did you mean 's"):
        retain.PPO(Told, drop_obs=("sen",))
    with pytest.raises(UsageError, match=r"drop_obs .* leaves nothing"):
        retain.PPO(Told, drop_obs=("mission", "pair", "seen"))
