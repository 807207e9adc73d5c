"""Agents whose environment is an object: evaluation, saving, resuming, playing back, curricula."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.errors import UsageError
from retain.train.playback import play_back

PPO = {"num_steps": 16, "batch_size": 16, "epochs": 1, "seed": 2}
DQN = {
    "hidden": (16,),
    "learning_starts": 20,
    "batch_size": 32,
    "num_steps": 10,
    "buffer_size": 600,
}


class Drift(gym.Env):
    """A walk whose noise is the episode's own; a step costs, the walls end it."""

    observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, width=3.0, seeded=True):
        self.width, self.seeded = width, seeded
        self.resets = 0

    def _see(self):
        return np.array([self.x], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed if self.seeded else None)
        self.resets += 1
        self.x = self.np_random.normal()
        return self._see(), {}

    def step(self, action):
        self.x += self.np_random.normal() + (0.5 if action else -0.5)
        return self._see(), -0.1, bool(abs(self.x) > self.width), False, {}


def same(one, two):
    pairs = zip(one.policy.state_dict().values(), two.policy.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("algo", "settings"), [("PPO", PPO), ("DQN", DQN)])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_evaluation_borrows_the_only_environment_and_training_is_untouched(algo, settings, memory):
    quiet, asked = (getattr(retain, algo)(Drift(), memory=memory, **settings) for _ in range(2))
    for agent in (quiet, asked):
        agent.learn(40)
    result = asked.evaluate(5)
    assert result.episodes == 5
    for agent in (quiet, asked):
        agent.learn(40)
    assert same(quiet, asked)
    assert quiet.collector.statistics.state() == asked.collector.statistics.state()


def test_evaluation_of_copies_never_touches_the_instance():
    env = gym.make("CartPole-v1", max_episode_steps=9)
    agent = retain.PPO(env, num_envs=2, **PPO).learn(32)
    assert set(agent.evaluate(20).returns) <= set(map(float, range(1, 10)))
    with pytest.raises(gym.error.ResetNeeded):  # nobody has used it
        env.step(0)


def test_what_cannot_be_played_again_is_cut_by_an_evaluation():
    agent = retain.DQN(Drift(seeded=False), **DQN).learn(33)
    agent.evaluate(2)
    stream, replay = agent.collector.streams[0], agent.replay
    assert stream.reset_flags.tolist() == [True]
    row = int(replay.written[0]) % replay.rows
    assert replay.flags[row - 2, 0] & 4  # truncated there
    agent.learn(20)


def test_evaluation_in_another_environment(recwarn):
    agent = retain.PPO(Drift, **PPO).learn(32)
    narrow = agent.evaluate(10, env=lambda: Drift(width=0.01))
    assert narrow.length_mean < agent.evaluate(10).length_mean
    only = Drift(width=0.01)
    assert agent.evaluate(10, env=only) == narrow
    assert only.resets >= 10
    with pytest.raises(UsageError, match=r"observation space is Box.*expected Box\(-10"):
        agent.evaluate(2, env="CartPole-v1")


def test_a_run_of_an_object_resumes_bit_identically(tmp_path):
    settings = PPO | {"lr_schedule": "constant"}  # a schedule goes by the planned end
    whole = retain.PPO(Drift(), **settings).learn(128)
    retain.PPO(Drift(), **settings).learn(64, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r'Python object.*retain.resume\("'):
        retain.resume(tmp_path / "run", steps=128)
    again = retain.resume(str(tmp_path / "run"), env=Drift(), steps=128)
    assert again.steps == 128
    assert same(whole, again)
    assert play_back(tmp_path / "run", 3, env=Drift()).same


def test_the_command_line_says_how_such_a_run_goes_on(tmp_path, capsys):
    from retain.cli.main import run

    retain.PPO(Drift, **PPO).learn(128, out=tmp_path / "run")
    assert run(["resume", str(tmp_path / "run"), "--steps", "256"]) == 2
    assert "retain.resume(" in capsys.readouterr().err
    assert run(["playback", str(tmp_path / "run")]) == 2
    assert "play_back(" in capsys.readouterr().err


def test_env_kwargs_are_saved_and_come_back(tmp_path):
    agent = retain.PPO(Drift, env_kwargs={"width": 0.5}, **PPO)
    agent.save(tmp_path / "agent")
    assert json.loads((tmp_path / "agent/config.json").read_text())["run"]["env_kwargs"] == {
        "width": 0.5
    }
    again = retain.load(tmp_path / "agent", env=Drift)
    assert again.backends[0].envs[0].width == 0.5
    assert retain.load(tmp_path / "agent", env=Drift()).settings["env_kwargs"] == {}


def test_env_kwargs_on_the_command_line(tmp_path):
    from retain.cli.main import run

    flags = ["--num-envs", "2", "--num-steps", "16", "--batch-size", "32", "--steps", "32"]
    for number, given in enumerate((["k=2", "suits=3"], ['{"k": 2, "suits": 3}'])):
        folder = str(tmp_path / str(number))
        arguments = ["train", "ppo", "--env", "RepeatPrevious-v0", "--out", folder, *flags]
        assert run([*arguments, "--env-kwargs", *given]) == 0
        agent = retain.load(folder)
        assert agent.settings["env_kwargs"] == {"k": 2, "suits": 3}
        assert agent.evaluate(2).episodes == 2
    assert run([*arguments, "--env-kwargs", "k"]) == 2


def test_load_takes_another_environment_of_the_same_spaces_only(tmp_path):
    retain.PPO("CartPole-v1", **PPO).save(tmp_path / "agent")
    agent = retain.load(
        tmp_path / "agent", env=lambda: gym.make("CartPole-v1", max_episode_steps=7)
    )
    assert agent.evaluate(4).length_mean <= 7
    other = retain.load(tmp_path / "agent", env="Acrobot-v1")
    with pytest.raises(UsageError, match="the environment's observation space is Box"):
        other.learn(32)


@pytest.mark.parametrize(("algo", "settings"), [("PPO", PPO), ("DQN", DQN)])
def test_a_curriculum_changes_the_environment_between_calls(algo, settings):
    agent = getattr(retain, algo)(Drift, env_kwargs={"width": 0.5}, num_envs=2, **settings)
    agent.learn(64)
    kept, steps, numbers = (
        agent.collector,
        agent.steps,
        agent.collector.streams[0].episodes.number.copy(),
    )
    seen = agent.collector.statistics.total
    agent.set_env(Drift, env_kwargs={"width": 9.0})
    agent.learn(64)
    assert agent.collector is kept
    assert agent.steps >= steps + 64
    assert (agent.collector.streams[0].episodes.number > numbers).all()  # no seed comes twice
    assert agent.backends[0].envs[0].width == 9.0
    assert agent.backends[0].envs[0].resets > 0
    assert agent.collector.statistics.total >= seen
    with pytest.raises(UsageError, match="observation space"):
        agent.set_env("CartPole-v1")
    with pytest.raises(UsageError, match=r"num_envs is 2.*second Drift"):
        agent.set_env(Drift())


def test_a_loaded_agent_takes_up_a_curriculum(tmp_path):
    first = retain.PPO(Drift, **PPO).learn(64)
    first.save(tmp_path / "agent")
    number = first.collector.streams[0].episodes.number
    agent = retain.load(tmp_path / "agent").set_env(Drift, env_kwargs={"width": 9.0})
    assert agent.steps == first.steps
    agent.learn(1)  # a segment of 16 steps, fewer than the episodes before
    assert (agent.collector.streams[0].episodes.number > number).all()


class Line(retain.Backend):
    """A batch with the library's own contract: counts to three."""

    name = "Line-v0"

    def __init__(self, num_envs):
        super().__init__(num_envs)
        self.observation_space = gym.spaces.Box(0, 200, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.start = np.zeros(num_envs)
        self.t = np.zeros(num_envs)

    def _see(self):
        return (self.start + self.t).astype(np.float32)[:, None]

    def _reset(self, mask, seeds):
        self.start[mask], self.t[mask] = seeds[mask] % 97, 0
        return self._see()

    def _step(self, action):
        self.t += 1
        never = np.zeros(self.num_envs, dtype=bool)
        return retain.EnvStep(self._see(), np.ones(self.num_envs), self.t >= 3, never)


def test_a_backend_trains_and_lends_itself_to_evaluation(tmp_path):
    quiet, asked = (retain.PPO(Line(4), **PPO) for _ in range(2))
    for agent in (quiet, asked):
        agent.learn(64)
    assert asked.evaluate(6).returns == (3.0,) * 6
    for agent in (quiet, asked):
        agent.learn(64)
    assert same(quiet, asked)
    assert quiet.name.startswith("Line-v0-ppo")
    quiet.learn(64, out=tmp_path / "run")
    assert play_back(tmp_path / "run", env=Line(2)).same
    with pytest.raises(UsageError, match="num_envs is 2, but Line-v0 has 4"):
        retain.PPO(Line(4), num_envs=2)


def test_a_registered_backend_is_an_id_like_any_other(tmp_path):
    retain.register_backend("Lines-v0")(Line)
    agent = retain.PPO("Lines-v0", num_envs=2, **PPO).learn(32)
    assert isinstance(agent.backends[0], Line)
    wrapped = retain.PPO("Lines-v0", num_envs=2, time_limit=2, workers=1, **PPO).learn(32)
    assert {episode.length for episode in wrapped.collector.statistics.recent} == {2}
    assert gym.make("Lines-v0").observation_space.shape == (1,)
    with pytest.raises(UsageError, match="'Lines-v0' is already registered"):
        retain.register_backend("Lines-v0")(Line)


def test_the_doctor_says_what_it_cannot_try():
    assert retain.doctor(gym.make("CartPole-v1"))["determinism"].verdict == "ok"
    with pytest.raises(UsageError, match=r"Drift cannot be copied: pass a callable"):
        retain.doctor(Drift())
