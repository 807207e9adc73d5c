"""Whatever a person can type: exit status 2 and one line that says what to type instead.

`bad_input.txt` has a command and a part of the line that it gets in each row. RUN is a finished run,
EMPTY a folder, FILE a file, LONG a name that is too long.
"""

import shlex
from pathlib import Path

import bad_environments  # noqa: F401 (registers them)
import pytest
import torch

import retain
from retain.cli.flags import _one_line
from retain.cli.main import run

TABLE = [
    line.split("  =>  ")
    for line in (Path(__file__).parent / "bad_input.txt").read_text().splitlines()
]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    settings = {"num_envs": 2, "num_steps": 16, "batch_size": 32, "epochs": 1, "hidden": (4,)}
    retain.PPO("CartPole-v1", **settings).learn(64, out=folder / "run")
    (folder / "empty").mkdir()
    (folder / "file").write_text("x")
    found = {name: str(folder / name.lower()) for name in ("RUN", "EMPTY", "FILE")}
    return found | {"LONG": str(folder / ("x" * 300))}


def filled(text, names):
    for name, path in names.items():
        text = text.replace(name, path)
    return text


def test_there_are_at_least_150_of_them():
    assert len({command for command, _ in TABLE}) >= 150


@pytest.mark.parametrize(("command", "said"), TABLE)
def test_one_line_says_what_to_type_instead(command, said, names, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = run(shlex.split(filled(command, names)))
    error = capfd.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("retain: ")]
    assert status == 2, error
    assert len(lines) == 1
    assert error.rstrip().endswith(lines[0]), error
    assert filled(said, names)[:120] in lines[0]
    assert len(lines[0]) < 1000
    assert not set("│╭╰─") & set(lines[0])
    assert not (tmp_path / "runs" / "CartPole-v1").exists()


def test_a_gpu_that_is_not_there_is_named(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert run(["train", "ppo", "--device", "cuda"]) == 2
    assert "'cuda'; no such GPU is usable here (expected one of: cpu)" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["1e2", "1_00", "100", "1.0e2"])
def test_steps_may_be_written_as_people_do(steps, tmp_path, capsys):
    small = ["--num-envs", "2", "--num-steps", "16", "--batch-size", "32", "--epochs", "1"]
    assert run(["train", "ppo", "--steps", steps, "--out", str(tmp_path / "run"), *small]) == 0
    assert "128/100" in capsys.readouterr().err


@pytest.mark.parametrize("box", [
    "╭─ Value error ─────╮\n│ Error parsing algo: gamma is 2.0 (expected 0 to 1) │\n│ ──── │\n│ For full │\n╰──╯",
    " Value error   \n ------------- \n  Error parsing algo: gamma is 2.0  \n  (expected 0 to 1)\n  -----\n  For",
])  # fmt: skip
def test_the_line_is_the_same_whatever_box_the_parser_draws(box):
    assert _one_line(box, "train ppo") == "gamma is 2.0 (expected 0 to 1)"
