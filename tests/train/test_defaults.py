"""Settings that follow from the task."""

import json

import gymnasium as gym
import numpy as np
import pytest

import retain
from retain.cli import main as cli
from retain.errors import UsageError
from retain.train.algorithms import AGENTS
from retain.train.config import RunConfig, field_names, parts_of
from retain.train.defaults import derive, settings_of, table, task_of
from retain.train.relevance import Situation, irrelevant

VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
WIDE = gym.spaces.Box(-0.5, 2.0, (2,), np.float32)
UNIT = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
TWO = gym.spaces.Discrete(2)


def derived(algo="ppo", observations=VECTOR, actions=WIDE, **given):
    agent = AGENTS[algo]
    kinds = RunConfig, agent.config_kind
    task = task_of(kinds, agent.run_defaults | given, given, observations, actions)
    return settings_of(derive(task))


class Own(gym.Env):
    """A task that no preset knows."""

    observation_space, action_space = VECTOR, WIDE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 1.0, bool(self.np_random.random() < 0.1), False, {}


class OwnChoice(Own):
    """The same with two actions."""

    action_space = TWO


def test_the_spaces_and_the_memory_decide():
    assert derived()["scale_actions"] is True
    assert "scale_actions" not in derived(actions=UNIT)
    assert "scale_actions" not in derived(actions=gym.spaces.Box(-np.inf, np.inf, (2,)))
    assert derived(actions=WIDE)["entropy_coef"] == 0.0
    assert "entropy_coef" not in derived(actions=TWO)  # the default suits
    assert derived()["normalise_obs"] is True
    assert "normalise_obs" not in derived(observations=gym.spaces.Box(0, 255, (9,), np.uint8))
    assert (
        derived(observations=gym.spaces.Box(0, 255, (7, 7, 3), np.uint8))["normalise_obs"] is True
    )
    assert derived()["normalise_reward"] is True
    assert not {"shortcut", "previous_action", "sequence_length"} & set(derived())
    memory = derived(memory="lstm")
    assert (memory["shortcut"], memory["previous_action"]) == (True, True)
    assert memory["separate_memory"] is True
    assert "separate_memory" not in derived("a2c", memory="lstm") | derived()
    assert memory["sequence_length"] == 32
    assert derived("sac")["normalise_reward"] is True
    assert (derived("sac")["normalise_obs"], derived("sac")["normaliser"]) == (True, "steady")
    assert "normaliser" not in derived("sac", normalise_obs=False) | derived()
    assert "normaliser" not in derived("dqn", actions=TWO)


def test_value_learners_with_a_memory_update_rarely_on_many_sequences():
    for algo in ("dqn", "qrdqn"):
        found = derived(algo, actions=TWO, memory="lstm")
        assert (found["update_ratio"], found["n_step"], found["batch_size"]) == (0.25, 5, 512)
        assert (found["learning_rate"], found["lr_schedule"]) == (5e-4, "linear")
        assert derived(algo, actions=TWO, memory="gru", sequence_length=48)["batch_size"] == 480
        assert derived(algo, actions=TWO, memory="gru", sequence_length=999)["batch_size"] == 999
        assert "update_ratio" not in derived(algo, actions=TWO)
    for algo in ("sac", "td3", "pqn"):
        assert "n_step" not in derived(algo, memory="lstm")
    lines = table(retain.DQN(OwnChoice, memory="lstm").derived)
    assert any(line.startswith("--lr-schedule linear ") for line in lines)


@pytest.mark.parametrize("length", [0, -3])
@pytest.mark.parametrize("agent", [retain.DQN, retain.PPO])
def test_an_impossible_sequence_is_refused_by_its_own_name(agent, length):
    with pytest.raises(UsageError, match=f"sequence_length is {length} "):
        agent(OwnChoice, memory="lstm", sequence_length=length)


def test_images_get_fewer_passes_wherever_they_are_seen():
    small = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    assert derived()["epochs"] == 10
    for seen in (small, gym.spaces.Dict(vector=VECTOR, map=small)):
        assert "epochs" not in derived(observations=seen)  # 4, the default
        assert derived(observations=seen, encoder="mlp")["epochs"] == 10


def test_segments_are_longer_where_small_images_are_seen():
    small = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    large = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)  # 60 times the memory
    for seen in (small, gym.spaces.Dict(vector=VECTOR, map=small)):
        found = derived(observations=seen)
        assert (found["num_steps"], found["batch_size"]) == (512, 512)
        assert "num_steps" not in derived(observations=seen, encoder="mlp")
        assert "num_steps" not in derived(observations=seen, num_steps=64)
    assert "num_steps" not in derived(observations=large)


class Fading(retain.StepMemory):
    """A stranger's memory, of which only the class is known."""

    def __init__(self, features_in, *, hidden):
        super().__init__()
        self.features_in = self.features = features_in

    def initial_carry(self, batch_size):
        return ()

    def step(self, x, carry):
        return x, carry


def test_a_strangers_memory_is_a_memory():
    agent = retain.PPO(Own, memory=Fading)
    assert {"shortcut", "sequence_length"} <= {one.name for one in agent.derived}


@pytest.mark.parametrize(
    ("given", "sequence"),
    [({"num_steps": 48}, 24), ({"num_steps": 20}, 20), ({"batch_size": 80}, 16),
     ({"num_steps": 31}, 31), ({"num_steps": 96, "batch_size": 60}, 12)],
)  # fmt: skip
def test_what_is_derived_fits_around_what_is_given(given, sequence):
    found = derived(memory="lstm", **given)
    assert found["sequence_length"] == sequence
    assert not set(given) & set(found)
    parts_of(found | given | {"memory": "lstm"}, RunConfig, AGENTS["ppo"].config_kind)


@pytest.mark.parametrize("algo", AGENTS)
@pytest.mark.parametrize("memory", ["none", "lstm", "window"])
def test_what_is_derived_builds_and_does_something(algo, memory):
    for actions in (WIDE, TWO):
        found = derived(algo, actions=actions, memory=memory)
        kinds = RunConfig, AGENTS[algo].config_kind
        given = AGENTS[algo].run_defaults | {"memory": memory}
        run, config = parts_of(given | found, *kinds)
        now = Situation(algo, None, (config, run), VECTOR, actions)
        assert irrelevant(found, now) == {}
        assert set(found) <= set(field_names(*kinds))


def test_presets_and_none_are_left_alone_and_the_user_wins():
    agent = retain.PPO("CartPole-v1")
    assert agent.derived == ()
    assert agent.config.num_steps == 32  # the preset's
    assert retain.PPO(Own, preset="none").config == AGENTS["ppo"].config_kind()
    agent = retain.PPO(Own, normalise_obs=False, num_envs=2)
    assert (agent.config.normalise_obs, agent.run_settings.num_envs) == (False, 2)
    assert agent.config.normalise_reward is True
    assert retain.PPO("CartPole-v1", preset="cleanrl").run_settings.num_envs == 4
    assert retain.PPO("CartPole-v1", preset="sb3").config.num_steps == 2048


def test_a_run_prints_and_records_what_was_derived_and_help_shows_it(tmp_path, capsys):
    gym.register("DerivedOwn-v0", Own)
    line = ["--env", "DerivedOwn-v0", "--memory", "gru", "--num-steps", "16"]
    assert cli.run(["train", "ppo", *line, "--steps", "300", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "no preset knows DerivedOwn-v0" in out
    assert "--sequence-length 16" in out
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"name": "scale_actions", "value": True} .items() <= next(
        one for one in facts["derived"] if one["name"] == "scale_actions").items()  # fmt: skip
    agent = retain.load(tmp_path / "run")
    assert len(agent.derived) > 5
    assert table(agent.derived)[0] in out
    with pytest.raises(SystemExit):
        cli.run(["train", "ppo", *line, "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    about = shown.split("--sequence-length", 1)[1]
    assert about[: about.index("--", 1)].rstrip().endswith("(default: 16)")
