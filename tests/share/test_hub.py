"""Agents go to a stand-in of the hub and come back; what somebody else put there is only data."""

import json
import shlex
import sys
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from stand_in import TOKEN, stand_in

import retain
from retain.cli.main import run as command_line
from retain.errors import CheckpointError, HubError, UsageError
from retain.share import pull, push
from retain.share.command import command_of

NAME = "me/pole"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.chdir(tmp_path)
    with stand_in() as (there, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield there


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    small = {"num_steps": 32, "num_envs": 2, "batch_size": 32, "memory_hidden": 8}
    agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", hidden=(8,), **small)
    agent.learn(128, out=folder)
    (folder / "video.gif").write_bytes(b"GIF89a")
    return folder


@pytest.fixture
def shared(hub, trained):
    push(trained, NAME, episodes=2)
    return hub


def outside(root, folder):
    """Every file outside a folder, with its content."""
    return {
        path: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and folder not in path.parents
    }


def test_an_agent_comes_back_as_it_went(shared, trained):
    folder = pull(NAME)
    assert folder == Path("runs/pole")
    before, after = retain.load(trained), retain.load(folder)
    obs = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
    assert before.act(obs, deterministic=True)[0].tolist() == (
        after.act(obs, deterministic=True)[0].tolist()
    )
    assert after.steps == before.steps
    after.learn(64)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "learning_curve.png", "manifest.json", "model.safetensors",
        "state.json", "training.safetensors", "video.gif",
    ]  # fmt: skip
    assert any(asked.startswith("PUT lfs/") for asked in shared.asked)


def test_the_card_says_how_well_it_does_and_how_to_train_it_again(shared, trained):
    text = shared.repos[NAME]["README.md"].decode()
    _, head, body = text.split("---\n", 2)
    facts = {k: json.loads(v) for k, v in (line.split(": ", 1) for line in head.splitlines())}
    assert facts["library_name"] == "retain"
    result = facts["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == "CartPoleNoVel-v1"
    assert result["metrics"][0]["type"] == "mean_reward"
    assert float(result["metrics"][0]["value"].split()[0]) > 0
    assert "over 2 episodes" in body
    assert "![Learning curve](learning_curve.png)" in body
    assert "![One episode](video.gif)" in body
    assert "retain pull me/pole" in body
    assert command_of(retain.load(trained), 128) in body


def test_the_command_trains_the_same_agent(trained, tmp_path):
    agent = retain.load(trained)
    words = shlex.split(command_of(agent, 128))
    assert words[:3] == ["retain", "train", "ppo"]
    assert command_line([*words[1:], "--out", str(tmp_path / "again")]) == 0
    again = retain.load(tmp_path / "again")
    assert again.settings == agent.settings
    wanted, found = (one.policy.state_dict() for one in (agent, again))
    assert all(wanted[name].equal(found[name]) for name in wanted)


def test_every_kind_of_setting_is_written_as_a_flag(tmp_path):
    agent = retain.SAC(
        "PendulumNoVel-v1", memory="gru", hidden=(8, 8), preset="none", num_envs=8,
        env_kwargs={"g": 9.0}, memory_options={"chrono": 20}, normalise_obs=True, buffer_size=900,
    )  # fmt: skip
    words = shlex.split(command_of(agent, 10))
    rest = " ".join(words)
    for part in (
        "--env PendulumNoVel-v1", "--hidden 8 8", "--env-kwargs g=9.0", "--normalise-obs",
        "--memory-options chrono=20", "--memory gru", "--buffer-size 900", "--steps 10",
        "--num-envs 8",
    ):  # fmt: skip
        assert part in rest
    assert "--learning-rate" not in rest  # as the algorithm's default


def test_a_replay_stays_at_home(hub, tmp_path):
    settings = {"num_envs": 2, "learning_starts": 64, "hidden": (8,), "batch_size": 8}
    agent = retain.SAC("Pendulum-v1", preset="none", **settings).learn(128, out=tmp_path / "run")
    push(tmp_path / "run", "me/swing", episodes=0)
    assert "model-index" not in hub.repos["me/swing"]["README.md"].decode()
    again = retain.load(pull("me/swing"))
    obs = np.zeros((1, 3), np.float32)
    assert again.act(obs, deterministic=True)[0] == agent.act(obs, deterministic=True)[0]
    again.learn(128)


def test_only_the_folder_is_written_and_nothing_is_run(shared, tmp_path):
    """What else lies in the repository is not fetched, whatever it is called."""
    evil = "raise SystemExit('run')"
    shared.repos[NAME] |= {
        "setup.py": evil.encode(), "../escaped.txt": b"x", "sitecustomize.py": evil.encode(),
        "retain/__init__.py": evil.encode(), "model.pkl": b"cos\nsystem\n(S'x'\ntR.",
    }  # fmt: skip
    before = outside(tmp_path, tmp_path / "got")
    pull(NAME, "got")
    assert outside(tmp_path, tmp_path / "got") == before
    assert not {"setup.py", "model.pkl"} & {path.name for path in (tmp_path / "got").iterdir()}
    assert not any("setup.py" in asked or "escaped" in asked for asked in shared.asked)


def test_an_agent_that_names_code_is_pulled_but_not_loaded(shared):
    files = shared.repos[NAME]
    config = json.loads(files["config.json"])
    config["env"] = "antigravity:Thing-v0"
    files["config.json"] = json.dumps(config).encode()
    with pytest.raises(CheckpointError, match=r"config.json is damaged"):
        pull(NAME)
    manifest = json.loads(files["manifest.json"])
    manifest["sha256"]["config.json"] = retain.train.files.digest(files["config.json"])
    files["manifest.json"] = json.dumps(manifest).encode()
    assert command_line(["eval", str(pull(NAME)), "--episodes", "1"]) == 2
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model.safetensors", lambda x: x[:-1] + b"!", "model.safetensors is damaged"),
        ("state.json", lambda x: b"[]", "state.json is damaged|holds a list"),
        ("manifest.json", lambda x: b"{", "manifest.json is not valid JSON"),
        ("training.safetensors", None, "holds no training.safetensors"),
    ],
)
def test_a_broken_agent_leaves_no_folder(shared, tmp_path, file, change, message):
    if change is None:
        del shared.repos[NAME][file]
    else:
        shared.repos[NAME][file] = change(shared.repos[NAME][file])
    with pytest.raises(CheckpointError, match=message):
        pull(NAME)
    assert not (tmp_path / "runs" / "pole").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_claims_to_be_huge_is_not_fetched(shared):
    shared.sizes["state.json"] = 10**9
    with pytest.raises(CheckpointError, match=r"state.json of me/pole has 1,000,000,000 bytes"):
        pull(NAME)
    assert not any("resolve" in asked and "state.json" in asked for asked in shared.asked)


def test_what_the_hub_refuses_is_one_line(hub, trained, monkeypatch, tmp_path):
    with pytest.raises(HubError, match="no 'me/nothing' to you: it does not exist, or needs"):
        pull("me/nothing")
    for wrong in ("a b", "../x/y"):
        with pytest.raises(UsageError, match=r"name is .* .expected user/name"):
            pull(wrong, "out")
    (tmp_path / "here").mkdir()
    with pytest.raises(UsageError, match="out is 'here', which exists already"):
        pull(NAME, "here")
    with pytest.raises(UsageError, match=r"video is 'film.avi' .expected an existing .gif or .mp4"):
        push(trained, NAME, episodes=0, video=Path("film.avi"))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError) as caught:
        push(trained, NAME, episodes=0)
    assert "\n" not in str(caught.value)
    assert not hub.repos
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="the hub failed for me/pole"):
        pull(NAME)


def test_the_command_line_pushes_and_pulls(hub, trained, capsys):
    assert command_line(["push", str(trained), NAME, "--episodes", "1"]) == 0
    assert capsys.readouterr().out.strip().endswith("/me/pole")
    assert command_line(["pull", NAME]) == 0
    assert "evaluate with: retain eval runs/pole" in capsys.readouterr().out
    assert retain.load("runs/pole").steps == 128
    assert command_line(["pull", "me/nothing"]) == 1
    assert capsys.readouterr().err.startswith("retain: the hub shows no 'me/nothing'")
