"""A run killed at any moment and resumed ends bit-identical to one never stopped."""

import csv
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import retain
from retain.errors import CheckpointError, UsageError
from retain.train import checkpoint as store
from retain.train.callbacks.csv import TIMING
from retain.train.resume import resume

SMALL = {
    "num_envs": 4,
    "num_steps": 32,
    "batch_size": 64,
    "epochs": 2,
    "normalise_obs": True,
    "checkpoint_every": 500,
    "memory_hidden": 16,
}


def flags(settings: dict) -> list[str]:
    out = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        out += [flag] if value is True else [flag, str(value)]
    return out


OFF_POLICY = {
    "hidden": 16,
    "memory_hidden": 16,
    "batch_size": 64,
    "num_steps": 50,
    "learning_starts": 100,
    "num_envs": 2,
    "buffer_size": 1500,
    "normalise_obs": True,
    "checkpoint_every": 400,
    "update_ratio": 0.25,
}


def start(folder, memory, steps, env="CartPoleNoVel-v1", algo="ppo", settings=SMALL):
    if memory == "none":  # a setting that would do nothing is refused
        settings = {name: value for name, value in settings.items() if name != "memory_hidden"}
    command = [sys.executable, "-m", "retain.cli", "train", algo, "--env", env, "--memory", memory,
               "--steps", str(steps), "--out", str(folder), *flags(settings)]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def metrics(folder):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def tensors(folder, name):
    return load_file(store.find_checkpoint(folder) / name)


def assert_same_run(folder, other):
    assert metrics(folder) == metrics(other)
    for name in (store.MODEL, store.TRAINING):
        ours, theirs = tensors(folder, name), tensors(other, name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run did not get there in time"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("memory", "steps", "other"),
    [
        ("none", 20_000, {}),
        ("lstm", 12_000, {}),
        ("gru", 6_000, {}),
        ("window", 4_000, {"algo": "ddpg", "env": "PendulumNoVel-v1", "settings": OFF_POLICY}),
        ("lstm", 2_000, {"algo": "sac", "settings": OFF_POLICY | {"prioritized": True}}),
    ],
    ids=["ppo-none", "ppo-lstm", "ppo-gru", "ddpg-window", "sac-lstm-prioritized"],
)
def test_killed_run_resumes_bit_identically(tmp_path, memory, steps, other):
    whole = tmp_path / "whole"
    assert start(whole, memory, steps, **other).wait(timeout=300) == 0
    killed = tmp_path / "killed"
    process = start(killed, memory, steps, **other)
    wait_for(lambda: len(store.checkpoints(killed)) > 1)
    time.sleep(random.uniform(0.0, 0.6))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    done = int(store.checkpoints(killed)[-1].name.removeprefix("step_"))
    assert 0 < done < steps, "killed too late to test anything"
    result = subprocess.run(
        [sys.executable, "-m", "retain.cli", "resume", str(killed)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert_same_run(killed, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_resume(tmp_path, number):
    folder = tmp_path / "run"
    ours = signal.signal(number, signal.SIG_DFL)  # a run leaves alone what its parent ignores
    process = start(folder, "lstm", 10_000_000)
    signal.signal(number, ours)
    wait_for(lambda: len(store.checkpoints(folder)) > 1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 128 + number
    assert f"retain resume {folder}" in output
    rows = metrics(folder)
    last = int(store.checkpoints(folder)[-1].name.removeprefix("step_"))
    assert int(rows[-1]["step"]) == last  # nothing learned was lost


def agent(**changes):
    return retain.PPO("CartPoleNoVel-v1", **({"memory": "lstm", "seed": 5} | SMALL | changes))


@pytest.mark.parametrize("env", ["PendulumNoVel-v1", "MountainCarContinuousNoVel-v0"])
def test_every_checkpoint_is_a_point_to_go_on_from(tmp_path, env):
    """Continuous actions, gSDE, reward normalisation, previous inputs, shared and own memories."""
    settings = SMALL | {
        "memory": "gru", "seed": 3, "normalise_reward": True, "use_sde": True,
        "sde_sample_freq": 4, "previous_action": True, "previous_reward": True,
        "separate_memory": True, "keep": 100, "checkpoint_every": 128, "sequence_length": 16,
    }  # fmt: skip
    whole = tmp_path / "whole"
    retain.PPO(env, **settings).learn(1500, out=whole)
    end = load_file(store.find_checkpoint(whole) / store.MODEL)
    for checkpoint in store.checkpoints(whole)[1:-1:4]:
        again = retain.load(checkpoint)
        again.learn(1, out=None)  # one segment more
        twice = retain.load(checkpoint)
        twice.learn(1, out=None)
        for (name, one), two in zip(
            again.policy.state_dict().items(), twice.policy.state_dict().values(), strict=True
        ):
            assert torch.equal(one, two), name
    folder = tmp_path / "cut"
    retain.PPO(env, **settings).learn(1500, out=folder)
    for late in store.checkpoints(folder)[5:]:
        for file in late.iterdir():
            file.unlink()
        late.rmdir()
    resume(folder)
    for name, value in load_file(store.find_checkpoint(folder) / store.MODEL).items():
        assert torch.equal(value, end[name]), name
    assert metrics(folder) == metrics(whole)


def test_saved_and_loaded_agent_learns_on_as_if_never_stopped(tmp_path):
    one = agent().learn(1000)
    one.save(tmp_path / "saved")
    one.learn(1000)
    two = retain.load(tmp_path / "saved")
    assert two.steps == 1024
    two.learn(1000)
    for name, value in one.policy.state_dict().items():
        assert torch.equal(value, two.policy.state_dict()[name]), name


def test_no_pickle_on_disk(tmp_path):
    agent().learn(600, out=tmp_path / "run")
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files if not path.name.startswith("events.out.tfevents")}
    assert kinds == {".json", ".jsonl", ".bin", ".safetensors", ".csv", ".png", ".lock"}


def test_last_checkpoints_and_the_best_are_kept(tmp_path):
    agent(keep=2).learn(4000, out=tmp_path / "run")
    names = [path.name for path in store.checkpoints(tmp_path / "run")]
    assert len(names) == 2
    assert names[-1] == store.checkpoint_name(4096)
    assert (tmp_path / "run" / "checkpoints" / "best" / store.MODEL).exists()


def test_interrupted_write_leaves_the_older_checkpoint_whole(tmp_path, monkeypatch):
    trained = agent().learn(300)
    trained.save(tmp_path / "saved")
    before = load_file(tmp_path / "saved" / store.MODEL)
    trained.learn(300)

    def broken(path, content):
        raise OSError("disk full")

    monkeypatch.setattr(store, "write_bytes", broken)
    with pytest.raises(OSError, match="disk full"):
        trained.save(tmp_path / "saved")
    after = load_file(tmp_path / "saved" / store.MODEL)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_resuming_what_is_no_run_or_finished_is_one_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run"):
        resume(tmp_path)
    agent().learn(300, out=tmp_path / "run")
    with pytest.raises(UsageError, match="is finished"):
        resume(tmp_path / "run")
    with pytest.raises(UsageError, match="already holds a run"):
        agent().learn(300, out=tmp_path / "run")


def test_a_finished_run_goes_on_to_more_steps(tmp_path):
    """As one that was that long from the start, where no schedule knows its length."""
    agent(lr_schedule="constant").learn(600, out=tmp_path / "whole")
    agent(lr_schedule="constant").learn(300, out=tmp_path / "extended")
    resume(tmp_path / "extended", steps=600)
    assert_same_run(tmp_path / "extended", tmp_path / "whole")
    assert store.read_json(tmp_path / "extended" / store.CONFIG)["steps"] == 600
    with pytest.raises(UsageError, match="is finished"):
        resume(tmp_path / "extended", steps=500)


def off_policy(**changes):
    settings = OFF_POLICY | {"hidden": (16,), "keep": 2, "memory": "lstm", "seed": 2}
    return retain.DDPG("PendulumNoVel-v1", **retain.DDPG.useful(settings | changes))


def test_a_replay_is_added_to_and_never_rewritten(tmp_path):
    run = tmp_path / "run"
    times = {}
    agent = off_policy(buffer_size=10_000, keep=100)
    agent.learn(4000, out=run)
    files = sorted((run / "replay").iterdir())
    assert len(files) == len(store.checkpoints(run)) == 11
    rows = [len(load_file(file)["row"]) for file in files]
    assert max(rows[1:]) < 450  # what a checkpoint adds, not all there is
    times = {file: file.stat().st_mtime_ns for file in files}
    again = retain.load(run)
    again.learn(100)
    assert {file: file.stat().st_mtime_ns for file in files} == times


def test_files_that_no_checkpoint_needs_are_removed(tmp_path):
    run = tmp_path / "run"
    off_policy(buffer_size=800).learn(4000, out=run)
    files = {int(file.stem.removeprefix("rows_")) for file in (run / "replay").iterdir()}
    needed = {file["number"] for path in store.checkpoints(run)
              for file in store.load_state(path)["replay"]["files"]}  # fmt: skip
    assert files == needed
    assert min(files) > 1
    retain.load(run).learn(100)


@pytest.mark.parametrize("memory", ["none", "window", "gru"])
def test_a_saved_off_policy_agent_learns_on_as_if_never_stopped(tmp_path, memory):
    one = off_policy(memory=memory, memory_owner="separate").learn(1000)
    one.save(tmp_path / "saved")
    one.learn(500)
    two = retain.load(tmp_path / "saved")
    two.save(tmp_path / "again")  # before anything needed the replay
    two = retain.load(tmp_path / "again")
    assert two.steps == 1000
    two.learn(500)
    for name, value in one.policy.state_dict().items():
        assert torch.equal(value, two.policy.state_dict()[name]), name


def test_a_missing_replay_file_is_named(tmp_path):
    off_policy().learn(1000, out=tmp_path / "run")
    file = sorted((tmp_path / "run" / "replay").iterdir())[-1]
    file.unlink()
    agent = retain.load(tmp_path / "run")
    assert agent.evaluate(1).episodes == 1  # playing needs no replay
    with pytest.raises(CheckpointError, match=file.name):
        agent.learn(100)
