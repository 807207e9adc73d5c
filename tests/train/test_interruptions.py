"""One process a folder; a full disk, a closed terminal or a broken checkpoint loses nothing."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import retain
from retain.cli.main import run as cli
from retain.errors import CheckpointError, StorageError, UsageError
from retain.train import checkpoint as store
from retain.train.lock import take
from retain.train.resume import resume

SMALL = {"num_envs": 4, "num_steps": 16, "batch_size": 32, "epochs": 1, "hidden": (8,), "seed": 3,
         "checkpoint_every": 128, "keep": 9}  # fmt: skip


def trained(run, steps=512, **changes):
    return retain.PPO("CartPole-v1", **(SMALL | changes)).learn(steps, out=run)


def model(run):
    return load_file(store.find_checkpoint(run) / store.MODEL)


def same(one, two):
    return all(torch.equal(x, two[name]) for name, x in one.items())


def test_a_folder_in_use_is_refused_with_the_process_id(tmp_path, capsys):
    run = tmp_path / "run"
    trained(run, 128)
    holder = take(run)
    said = f"{run} is in use by process {os.getpid()}"
    assert cli(["resume", str(run), "--steps", "256"]) == 2
    assert said in capsys.readouterr().err
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UsageError, match=said):
        trained(run)
    holder.close()
    trained(run)


def test_two_agents_do_not_share_a_buffer_folder(tmp_path):
    settings = {"buffer_folder": str(tmp_path / "buffer"), "hidden": (8,), "learning_starts": 50,
                "buffer_size": 1000}  # fmt: skip
    one = retain.DDPG("Pendulum-v1", **settings).learn(20)
    with pytest.raises(UsageError, match=f"buffer is in use by process {os.getpid()}"):
        retain.DDPG("Pendulum-v1", **settings).learn(20)
    del one
    retain.DDPG("Pendulum-v1", **settings).learn(20)


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(tmp_path, capfd):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trained(whole, 2048)
    biggest = max(p.stat().st_size for p in whole.rglob("*.bin"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    command = ["--env", "CartPole-v1", "--steps", "2048", "--out", str(cut), "--num-envs", "4",
               "--num-steps", "16", "--batch-size", "32", "--epochs", "1", "--hidden", "8",
               "--seed", "3", "--checkpoint-every", "128", "--keep", "9"]  # fmt: skip
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(biggest // 2, 30_000), limits[1]))
    try:
        status = cli(["train", "ppo", *command])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    lines = [x for x in capfd.readouterr().err.splitlines() if "steps_per_second" not in x]
    assert status == 1
    assert len(lines) == 1
    assert "once there is room, continue with: retain resume" in lines[0]
    assert not list(cut.glob("checkpoints/.*"))
    resume(cut)
    assert same(model(cut), model(whole))


def test_a_run_killed_before_its_plot_gets_it_on_resume(tmp_path):
    run = tmp_path / "run"
    trained(run, 128)
    (run / "learning_curve.png").unlink()
    assert cli(["resume", str(run)]) == 0
    assert (run / "learning_curve.png").exists()
    with pytest.raises(UsageError, match="is finished"):
        resume(run)


def test_a_broken_checkpoint_names_the_newest_whole_one_and_from_takes_it(tmp_path, capsys):
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole)
    trained(run)
    newest, second, third = store.checkpoints(run)[:-4:-1]
    (newest / store.MODEL).write_bytes(b"")
    (second / store.STATE).unlink()
    assert cli(["resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert f"{newest / store.MODEL} is damaged" in error
    assert f"newest intact checkpoint is {third.name}: retain resume {run} --from" in error
    assert cli(["resume", str(run), "--from", "step_12"]) == 2
    assert f"it has {store.checkpoints(run)[0].name}" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=r"state.json does not exist; .* is step_"):
        resume(run, checkpoint=second.name)
    assert cli(["resume", str(run), "--from", str(int(third.name[5:]))]) == 0
    assert same(model(run), model(whole))
    assert (run / "metrics.csv").read_text().count("\n") == 9


def test_a_reader_that_leaves_does_not_stop_the_training(tmp_path):
    run = tmp_path / "run"
    line = (f"{sys.executable} -m retain train ppo --env CartPole-v1 --steps 3000 --out {run} 2>&1 "
            "| head -n 1; exit ${PIPESTATUS[0]}")  # fmt: skip
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout == f"run folder: {run}\n"
    assert done.stderr == ""
    assert int(store.checkpoints(run)[-1].name[5:]) >= 3000


def test_an_interrupt_while_loading_is_quiet():
    command = [sys.executable, "-m", "retain", "train", "ppo"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
    )
    for line in process.stderr:
        if "gymnasium" in line:  # in the midst of retain's own imports
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=60)[1]
    assert "Traceback" not in rest
    assert process.returncode in (-signal.SIGINT, 130)


def test_no_room_while_writing_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    agent = retain.PPO("CartPole-v1", **SMALL)
    real, began = store.write_bytes, time.monotonic()

    def full(path, content):
        if path.name == store.TRAINING and len(store.checkpoints(tmp_path / "run")) == 2:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(StorageError, match=r"training.safetensors: No space left on device; noth"):
        agent.learn(1000, out=tmp_path / "run")
    assert len(store.checkpoints(tmp_path / "run")) == 2
    assert time.monotonic() - began < 60


def test_the_remains_of_interrupted_writes_go_with_the_next_checkpoint(tmp_path):
    agent = trained(tmp_path / "run")
    checkpoints = tmp_path / "run" / store.FOLDER
    for name in (".step_99.tmp-1", ".best.old-2"):
        (checkpoints / name).mkdir()
    store.prune(tmp_path / "run", 2)
    assert not [path for path in checkpoints.iterdir() if path.name.startswith(".")]
    assert store.checkpoints(tmp_path / "run")
    assert agent.steps
