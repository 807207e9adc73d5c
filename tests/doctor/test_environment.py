"""The doctor on environments: each fault is named, and sound ones pass."""

import gymnasium as gym
import numpy as np
import pytest

import retain
from retain.doctor import check_environment, check_memory
from retain.doctor.environment import environment_results
from retain.errors import UsageError
from retain.memory import NoMemory


class Sound(gym.Env):
    """A walk of 30 to 40 steps."""

    observation_space = gym.spaces.Box(-50, 50, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def observe(self):
        return np.array([self.x, self.x * 0.5], np.float32)

    def start(self):
        self.x, self.t = float(self.np_random.normal()), 0
        self.limit = int(self.np_random.integers(30, 40))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start()
        return self.observe(), {}

    def move(self, action):
        self.x += float(self.np_random.normal()) * 0.1 + (0.05 if action else -0.05)
        self.t += 1

    def step(self, action):
        self.move(action)
        return self.observe(), abs(self.x), self.t >= self.limit, False, {}


class Outside(Sound):
    def observe(self):
        return super().observe() + 100


class WrongShape(Sound):
    def observe(self):
        return super().observe().astype(np.float64)[None]


class Random(Sound):
    def move(self, action):
        super().move(action)
        self.x += np.random.default_rng().normal() * 0.1


class Remembers(Sound):
    offset = 0.0

    def step(self, action):
        self.offset += 0.001
        out = super().step(action)
        return out[0] + np.float32(self.offset), *out[1:]


class Seedless(Sound):
    def start(self):
        self.x, self.t, self.limit = 0.0, 0, 30

    def move(self, action):
        self.x += 0.1
        self.t += 1


class NotFinite(Sound):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.nan if self.t == 7 else reward, *rest


class Autoresets(Sound):
    def step(self, action):
        out = super().step(action)
        if out[2]:
            self.x = 100.0  # where it ended, which nobody will see
            self.start()
            return self.observe(), *out[1:]
        return out

    def move(self, action):
        super().move(action)
        self.x += 1.0


class TimeLimit(Sound):
    def start(self):
        super().start()
        self.limit = 25


class Overwrites(Sound):
    def observe(self):
        if not hasattr(self, "array"):
            self.array = np.zeros(2, np.float32)
        self.array[:] = super().observe()
        return self.array


class Huge(Sound):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward * 1e4, *rest


class Unpaid(Sound):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 0.0, *rest


class Wide(Sound):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observe(self):
        return super().observe() * np.float32(1e3)


@pytest.mark.parametrize(("env", "check", "verdict"), [
    (Outside, "observation space", "fail"),
    (WrongShape, "observation space", "fail"),
    (Random, "determinism", "fail"),
    (Remembers, "reset isolation", "fail"),
    (Seedless, "seeds matter", "warn"),
    (NotFinite, "finite numbers", "fail"),
    (Autoresets, "autoreset", "fail"),
    (lambda: gym.wrappers.Autoreset(Sound()), "autoreset", "fail"),
    (TimeLimit, "terminated against truncated", "warn"),
    (Overwrites, "observations stay", "warn"),
    (Huge, "reward scale", "warn"),
    (Unpaid, "reward scale", "warn"),
    (Wide, "observation scale", "warn"),
])  # fmt: skip
def test_a_fault_of_an_environment_is_named(env, check, verdict):
    results = {result.name: result for result in environment_results(env)}
    assert results[check].verdict == verdict
    assert results[check].meaning
    assert results[check].mend


def test_a_raw_scale_fails_an_agent_that_reads_it_as_it_is():
    def scale(**settings):
        settings = {"num_envs": 1, "num_steps": 8, "batch_size": 8} | settings
        agent = retain.PPO(Wide, **settings)
        found = environment_results(Wide, settings=agent.settings)
        return next(result for result in found if result.name == "observation scale")

    result = scale(normalise_obs=False)
    assert result.verdict == "fail"
    assert result.mend.startswith("--normalise-obs")
    assert scale().verdict == "ok"  # what is derived normalises


def test_traces_of_an_episode_are_no_lack_of_determinism():
    results = {result.name: result for result in environment_results(Remembers)}
    assert results["determinism"].verdict == "ok"
    assert "see reset isolation" in results["determinism"].measured
    assert results["reset isolation"].verdict == "fail"


@pytest.mark.parametrize("env", [Sound, "CartPole-v1", "PendulumNoVel-v1", "Acrobot-v1",
                                 "MountainCarContinuous-v0", "CueTarget-v0"])  # fmt: skip
def test_sound_environments_pass_without_a_word(env):
    assert [r for r in environment_results(env) if r.verdict != "ok"] == []
    check_environment(env)


def test_assertions_say_what_is_wrong_and_how_to_mend_it():
    with pytest.raises(AssertionError, match=r"(?s)determinism: .*np_random"):
        check_environment(Random)

    class Leaks(NoMemory):
        receptive_field = None

        def initial_carry(self, batch_size):
            import torch

            return torch.zeros(batch_size, self.features_in)

        def forward(self, x, carry, reset):
            total = x.cumsum(0) + carry
            return total, total[-1]

    with pytest.raises(AssertionError, match="memory: an episode ends at its reset"):
        check_memory(Leaks(3))


def test_the_module_is_the_function():
    report = retain.doctor("PendulumNoVel-v1")
    assert report.ok
    assert report["determinism"].verdict == "ok"
    with pytest.raises(KeyError):
        report["no such check"]
    assert not retain.doctor(Random).ok
    with pytest.raises(UsageError, match="cannot examine int"):
        retain.doctor(3)


def test_what_raises_is_a_result_and_bad_input_one_line(monkeypatch):
    class Breaks(Sound):
        def step(self, action):
            raise ZeroDivisionError("in step")

    report = retain.doctor(Breaks)
    assert [r.verdict for r in report.results] == ["fail"]
    assert "ZeroDivisionError: in step" in report.results[0].measured
    with pytest.raises(UsageError, match="did you mean 'CartPole-v1'"):
        retain.doctor("CartPol-v1")


def test_an_agent_is_examined_whole(capsys):
    agent = retain.PPO("CartPoleNoVel-v1", memory="lstm")
    seen = []
    report = retain.doctor(agent, probes=False, saw=seen.append)
    assert report.ok
    assert seen == report.results
    names = {result.name for result in report.results}
    assert {"determinism", "memory: never looks ahead", "acting and training agree"} <= names
    report.show()
    assert "acting and training agree" in capsys.readouterr().out


def test_the_command_line_says_it_in_a_table_and_in_json(capsys):
    import json

    from retain.cli.main import run

    arguments = ["doctor", "ppo", "--env", "CartPole-v1", "--no-probes"]
    assert run(arguments) == 0
    assert "0 failed" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {"name", "verdict", "measured", "meaning", "mend"} == set(results[0])
    assert run(["doctor"]) == 2
    assert "needs an algorithm" in capsys.readouterr().err
    assert run(["doctor", "ppo", "--env", "CartPol-v1"]) == 2
    assert "did you mean 'CartPole-v1'" in capsys.readouterr().err
    gym.register("Remembers-v0", entry_point=Remembers)
    assert run(["doctor", "ppo", "--env", "Remembers-v0", "--no-probes"]) == 1
    out = capsys.readouterr().out
    assert "reset isolation" in out
    assert "mend" in out


class Signs(gym.Env):
    """Two signs: an episode may well end on the one it began with."""

    observation_space = action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.signs = 0, self.np_random.integers(2, size=6)
        return self.signs[0], {}

    def step(self, action):
        self.t += 1
        return self.signs[self.t], 0.0, self.t == 5, False, {}


def test_a_chance_return_to_a_first_observation_is_no_autoreset():
    results = {result.name: result for result in retain.doctor(Signs).results}
    assert results["autoreset"].verdict == "ok"
