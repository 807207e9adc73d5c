"""Presets are files: the library's own, and a user's."""

import pytest

import retain
from retain.cli import main as cli
from retain.errors import UsageError
from retain.memory import MEMORIES
from retain.train.algorithms import AGENTS
from retain.train.config import RunConfig, field_names, parts_of
from retain.train.presets import FOLDER, names, preset
from retain.train.relevance import Situation, irrelevant

SMALL = {"num_envs": 2, "num_steps": 16, "batch_size": 16}


def fields(algo):
    return field_names(RunConfig, AGENTS[algo].config_kind)


def environments(algo):
    """Every environment that one of the library's presets names."""
    for path in FOLDER.glob(f"*/{algo}.toml"):
        import tomllib

        for name, table in tomllib.loads(path.read_text()).items():
            env = table.get("env", name)
            for one in [env] if isinstance(env, str) else env:
                yield path.parent.name, one.replace("*", "Pong-v5")


@pytest.mark.parametrize("algo", AGENTS)
@pytest.mark.parametrize("memory", MEMORIES)
def test_every_preset_of_the_library_builds_and_sets_nothing_in_vain(algo, memory):
    for name, env in environments(algo):
        values = preset(algo, env, memory, name, known=fields(algo))
        kinds = RunConfig, AGENTS[algo].config_kind
        run, config = parts_of(AGENTS[algo].run_defaults | values | {"memory": memory}, *kinds)
        assert irrelevant(values, Situation(algo, env, (config, run))) == {}, (env, name)


def test_the_tuned_presets_are_what_they_always_were():
    def value(algo, env, memory, *wanted):
        found = preset(algo, env, memory, known=fields(algo))
        return tuple(found.get(name) for name in wanted)

    assert value("ppo", "CartPole-v1", "none", "num_steps", "gae_lambda") == (32, 0.8)
    assert value("ppo", "CartPoleNoVel-v1", "lstm", "epochs", "num_steps") == (10, 128)
    assert value("ppo", "retain/CartPoleNoVel-v1", "gru", "epochs", "hidden") == (10, [64])
    assert value("ppo", "ALE/Pong-v5", "window", "frame_stack", "clip_range") == (1, 0.1)
    assert value("ppo", "RepeatPrevious-v0", "none", "num_steps", "num_envs") == (104, 32)
    assert value("td3", "PendulumNoVel-v1", "window", "window", "update_ratio") == (3, 1.0)
    assert value("sac", "Pendulum-v1", "window", "gamma", "sequence_length") == (0.98, None)
    assert value("ddpg", "Pendulum-v1", "gru", "gamma", "sequence_length") == (0.9, 32)
    assert value("dqn", "CartPole-v1", "lstm", "burn_in", "batch_size") == (8, 256)
    assert preset("sac", "Hopper-v5", "none", known=fields("sac"))["learning_starts"] == 5000
    assert preset("ppo", "Unheard-v0", "lstm", known=fields("ppo")) == {}


MINE = """
learning_rate = 2e-3

["CartPole*"]
num_envs = 2
num_steps = 16
batch_size = 16

["CartPole*".memory]
memory_hidden = 8
["CartPole*".gru]
memory_hidden = 9

[other]
env = ["Acrobot-v1"]
like = "CartPole*"
gamma = 0.5
"""


def test_a_users_file_is_a_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    agent = retain.PPO("CartPole-v1", memory="lstm", preset=str(path), gamma=0.8)
    chosen = agent.config.memory_hidden, agent.config.learning_rate, agent.config.gamma
    assert chosen == (8, 2e-3, 0.8)
    assert retain.PPO("CartPole-v1", memory="gru", preset=str(path)).config.memory_hidden == 9
    other = preset("ppo", "Acrobot-v1", "gru", str(path), known=fields("ppo"))
    assert (other["gamma"], other["memory_hidden"], other["num_steps"]) == (0.5, 9, 16)
    assert preset("ppo", "Pendulum-v1", "none", str(path), known=fields("ppo")) == {
        "learning_rate": 2e-3
    }


def test_a_copy_of_one_of_ours_is_that_preset(tmp_path):
    copy = tmp_path / "copy.toml"
    copy.write_text((FOLDER / "tuned" / "dqn.toml").read_text())
    ours, copied = (
        preset("dqn", "CartPoleNoVel-v1", "lstm", name, known=fields("dqn"))
        for name in ("tuned", str(copy))
    )
    assert ours == copied != {}


def test_no_preset_leaves_the_defaults():
    assert "tuned" in names()
    plain = retain.PPO("CartPole-v1", preset="none").config
    assert plain == AGENTS["ppo"].config_kind()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1", "ppo has no setting 'learning_rat'; did you mean 'learning_rate'"),
        ("[CartPole-v1.lsmt]\ngamma = 1", "lsmt'; did you mean 'lstm'"),
        ("[a]\nlike = 'b'", "like is 'b'"),
        ("[a]\nlearning_starts = 5", r"\[a\]: ppo has no setting 'learning_starts'"),
        ("a = ", "is not valid TOML"),
        ("epochs = 'many'", "epochs is 'many' .expected int"),
        ("memory_hidden = 32", r"mine.toml: memory_hidden 32 would do nothing: there is no memory"),
    ],
)
def test_a_broken_file_is_one_line_that_names_the_place(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        retain.PPO("CartPole-v1", preset=str(path))


def test_an_unknown_preset_is_told_which_there_are(capsys):
    with pytest.raises(UsageError, match=r"unknown preset 'tund'; did you mean 'tuned'.*file.toml"):
        retain.PPO("CartPole-v1", preset="tund")
    assert cli.run(["train", "ppo", "--preset", "/nowhere.toml"]) == 2
    assert "preset '/nowhere.toml' does not exist" in capsys.readouterr().err
