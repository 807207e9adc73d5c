"""A worker that stands still or hangs, a trainer without memory, a disk that fills."""

import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import drive
import gymnasium as gym
import numpy as np
import pytest

from retain.train import checkpoint as store

pytestmark = pytest.mark.faults
NAME = "ppo gru workers"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert drive.train(NAME, run).wait() == 0
    return drive.outcome(run)


def incidents(run):
    return [json.loads(line)["kind"] for line in (run / "incidents.jsonl").open()]


def begun(run, process, checkpoints=2):
    end = time.monotonic() + 120
    while len(store.checkpoints(run)) < checkpoints:
        assert time.monotonic() < end
        assert not process.over()
        time.sleep(0.01)


def test_a_worker_that_is_stopped_is_replaced_and_nothing_changes(tmp_path, whole, monkeypatch):
    monkeypatch.setitem(drive.CONFIGURATIONS, NAME, drive.CONFIGURATIONS[NAME]
                        + " --worker-timeout 3")  # fmt: skip
    run = tmp_path / "run"
    process = drive.train(NAME, run)
    begun(run, process)
    os.kill(process.workers()[0], signal.SIGSTOP)
    assert process.wait() == 0
    assert incidents(run) == ["worker hung"]
    assert drive.differences(drive.outcome(run), whole) == []


class Hangs(gym.Env):
    """Hangs for good at its twentieth step, unless a file says that this has happened before."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    mark = ""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.mark and self.t == 20 and not os.path.exists(self.mark):
            with open(self.mark, "w"):
                time.sleep(10_000)
        return np.full(2, self.t / 30, np.float32), float(action), self.t == 30, False, {}


def test_a_worker_that_hangs_is_replaced_and_nothing_changes(tmp_path):
    import retain

    settings = {"num_envs": 2, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,),
                "workers": 2, "worker_timeout": 3.0, "seed": 3}  # fmt: skip
    retain.PPO(Hangs, **settings).learn(256, out=tmp_path / "whole")
    kind = type("HangsOnce", (Hangs,), {"mark": str(tmp_path / "mark")})
    retain.PPO(kind, **settings).learn(256, out=tmp_path / "hung")
    assert incidents(tmp_path / "hung") == ["worker hung"]
    one, two = (drive.outcome(tmp_path / name) for name in ("whole", "hung"))
    assert drive.differences(one, two) == []


def limited(kind, amount, arguments, log):
    """A run under a limit; its status."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount, before[1]))
    try:
        process = drive.Run(arguments, log)  # inherits it
    finally:
        resource.setrlimit(kind, before)
    return process.wait()


def test_a_trainer_without_memory_ends_with_one_line_and_a_whole_checkpoint(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    arguments = ["train", *drive.CONFIGURATIONS["ppo"].split(), "--out", str(run)]
    assert limited(resource.RLIMIT_AS, 2**62, arguments, log) == 0
    facts = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) * 1024 for line in facts if line.startswith("VmSize"))
    shutil.rmtree(run)
    log.unlink()
    wide = [*arguments, "--hidden", "3000", "3000", "--num-envs", "64"]
    status = limited(resource.RLIMIT_AS, held + 150 * 2**20, wide, log)
    assert status in (1, 2), log.read_text()[-3000:]
    last = log.read_text().splitlines()[-1]
    assert last.startswith("retain: ")
    assert "memory" in last
    assert "Traceback" not in log.read_text()
    for checkpoint in store.checkpoints(run):
        store.check(checkpoint)


def test_a_disk_that_fills_loses_nothing(tmp_path):
    """A limit of file size that the checkpoints keep to and the metrics come to exceed."""
    whole, run, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    flags = [*drive.CONFIGURATIONS["ppo"].split(), "--seed", "5", "--num-steps", "8",
             "--batch-size", "32"]  # fmt: skip
    assert drive.Run(["train", *flags, "--out", str(whole)], log).wait() == 0
    metrics = (whole / "metrics.csv").stat().st_size
    largest = max(x.stat().st_size for x in (whole / "checkpoints").rglob("*") if x.is_file())
    assert largest < metrics / 2
    limit = (largest + metrics) // 2
    status = limited(resource.RLIMIT_FSIZE, limit, ["train", *flags, "--out", str(run)], log)
    lines = log.read_text().splitlines()
    assert status == 1
    assert "once there is room, continue with: retain resume" in lines[-1]
    assert not any("Traceback" in line for line in lines)
    assert drive.Run(["resume", str(run)], log).wait() == 0
    assert drive.differences(drive.outcome(run), drive.outcome(whole)) == []
