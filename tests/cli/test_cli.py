"""The command line as a new user meets it."""

import json

import pytest

from retain._version import __version__
from retain.cli import main as cli


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    status = cli.run(
        ["train", "ppo", "--env", "CartPoleNoVel-v1", "--memory", "lstm", "--steps", "1_000",
         "--out", str(folder), "--checkpoint-every", "500"]
    )  # fmt: skip
    assert status == 0
    return folder


def test_training_leaves_a_whole_run_folder(finished):
    names = {path.name.split(".")[0] for path in finished.iterdir()}
    assert {"config", "metrics", "events", "checkpoints", "learning_curve"} <= names
    config = json.loads((finished / "config.json").read_text())
    assert config["env"] == "CartPoleNoVel-v1"
    assert config["ppo"]["memory"] == "lstm"
    assert config["ppo"]["normalise_obs"] is True  # the preset's final values


def test_eval_prints_json_for_machines(finished, capsys):
    assert cli.run(["eval", str(finished), "--episodes", "3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == ["return_mean", "return_std", "length_mean", "episodes"]
    assert facts["episodes"] == 3
    assert cli.run(["eval", str(finished), "--episodes", "3", "--stochastic"]) == 0
    assert "over 3 episodes" in capsys.readouterr().out


def test_plot_draws_a_picture(finished, tmp_path, capsys):
    out = tmp_path / "curve.png"
    assert cli.run(["plot", str(finished), str(finished), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert cli.run(["plot", str(finished), "--out", str(out), "--metric", "retrun_mean"]) == 2
    assert "no column 'retrun_mean'" in capsys.readouterr().err


def test_envs_lists_spaces_and_returns(capsys):
    assert cli.run(["envs"]) == 0
    out = capsys.readouterr().out
    assert "PendulumNoVel-v1" in out
    assert "-1026" in out


def test_help_shows_the_final_values_of_the_preset(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(["train", "ppo", "--env", "CartPoleNoVel-v1", "--memory", "lstm", "--help"])
    assert caught.value.code == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--memory-hidden INT Width of the recurrent state. (default: 64)" in out
    assert "--num-steps INT" in out
    assert "(default: 32)" in out


def test_version_and_overview(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"retain {__version__}"
    assert cli.run([]) == 0
    assert "resume" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian ppo", "unknown verb 'trian'; did you mean 'train'"),
        ("train pppo", "unknown algorithm 'pppo'; did you mean 'ppo'"),
        ("train", "needs an algorithm"),
        ("train ppo --memori lstm", "unknown flag '--memori'; did you mean '--memory'"),
        ("train ppo --memory lsmt", "did you mean 'lstm'"),
        ("train ppo --env CartPole-v9", "did you mean 'CartPole-v1'"),
        ("train ppo --epochs many", "--epochs"),
        ("train ppo --gamma 2", "gamma is 2.0 (expected 0 to 1)"),
        ("train ppo --squash", "squash needs Box actions"),
        ("train ppo --steps 0", "steps is 0"),
        ("eval /nowhere", "/nowhere does not exist"),
        ("resume /nowhere", "/nowhere holds no run"),
        ("plot /nowhere", "does not exist"),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_two(line, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("retain: ")
    assert err.count("\n") == 1
    assert message in err
