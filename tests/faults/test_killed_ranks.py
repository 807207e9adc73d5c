"""Ranks that are killed, stopped or hang: the run ends as one that was left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

ARGUMENTS = (
    "--env", "CartPoleNoVel-v1", "--memory", "lstm", "--memory-hidden", "16", "--preset", "none",
    "--shards", "4", "--num-envs", "4", "--num-steps", "16", "--batch-size", "64",
    "--normalise-obs", "--normalise-reward", "--steps", "6000", "--checkpoint-every", "500",
)  # fmt: skip
LAST = "step_000000006016"
KILLED = "step_000000001024"


def begin(run, *more):
    command = [sys.executable, "-m", "retain", "train", "ppo", *ARGUMENTS, "--out", str(run), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_for(run, process):
    until = time.monotonic() + 120
    while not (run / "checkpoints" / KILLED).exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def rank(process, number):
    """The process id of a rank."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={number}".encode() in environment:
            return int(child)
    raise AssertionError(f"no rank {number}")


def contents(run):
    files = [run / "checkpoints" / LAST / f"{name}.safetensors" for name in ("model", "training")]
    return [file.read_bytes() for file in (*files, run / "episodes.jsonl", run / "actions.bin")]


def rows(run):
    lines = (run / "metrics.csv").read_text().splitlines()
    drop = [lines[0].split(",").index(name) for name in ("seconds", "steps_per_second")]
    return [[x for n, x in enumerate(line.split(",")) if n not in drop] for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    process = begin(run)
    assert process.wait(300) == 0
    return run


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_costs_the_steps_since_the_checkpoint(undisturbed, tmp_path, number):
    run = tmp_path / "run"
    process = begin(run, "--ranks", "2")
    wait_for(run, process)
    os.kill(rank(process, number), signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    said = [line for line in err.splitlines() if line.startswith("retain:")]
    assert process.returncode == 0, err
    assert len(said) == 1
    assert said[0].startswith(
        f"retain: rank {number} was killed (SIGKILL); all ranks continue from"
    )
    assert "Traceback" not in err
    assert contents(run) == contents(undisturbed)
    assert rows(run) == rows(undisturbed)


def test_a_rank_that_hangs_is_named_within_the_stated_time(undisturbed, tmp_path):
    run = tmp_path / "run"
    process = begin(run, "--ranks", "2", "--rank-timeout", "5")
    wait_for(run, process)
    os.kill(rank(process, 1), signal.SIGSTOP)
    began = time.monotonic()
    line = next(line for line in process.stderr if line.startswith("retain:"))
    assert line.startswith("retain: rank 1 gave no answer for 5 s; all ranks continue from")
    assert time.monotonic() - began < 5 + 30 + 10
    assert process.wait(300) == 0
    assert contents(run) == contents(undisturbed)


@pytest.mark.parametrize("whom", ["launcher", "rank"])
def test_sigterm_stops_all_with_a_checkpoint_that_any_number_of_ranks_continues(
    undisturbed, tmp_path, whom
):
    run = tmp_path / "run"
    process = begin(run, "--ranks", "2")
    wait_for(run, process)
    os.kill(process.pid if whom == "launcher" else rank(process, 1), signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert out.splitlines()[-1] == f"stopped; continue with: retain resume {run}"
    assert "Traceback" not in err
    ranks = "4" if whom == "launcher" else "1"
    resume = [sys.executable, "-m", "retain", "resume", str(run), "--ranks", ranks]
    assert subprocess.run(resume, capture_output=True, timeout=300).returncode == 0
    assert contents(run) == contents(undisturbed)


def test_ranks_whose_launcher_is_killed_write_a_checkpoint_and_stop(tmp_path):
    run = tmp_path / "run"
    process = begin(run, "--ranks", "2")
    wait_for(run, process)
    ranks = [rank(process, 0), rank(process, 1)]
    process.kill()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{one}/stat").exists() for one in ranks):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert not (run / "checkpoints" / LAST).exists()


def test_a_rank_that_always_dies_ends_in_one_line(tmp_path):
    """An environment that kills its process at once: nobody starts it again for ever."""
    (tmp_path / "deadly.py").write_text(
        "import os, signal, gymnasium as gym\n"
        "def make(**kwargs):\n"
        "    if os.environ.get('RANK') == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return gym.make('CartPole-v1')\n"
        "gym.register('Deadly-v0', entry_point=make)\n"
    )
    command = [sys.executable, "-m", "retain", "train", "ppo", "--env", "deadly:Deadly-v0",
               "--preset", "none", "--ranks", "2", "--out", str(tmp_path / "run")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 75
    said = done.stderr.splitlines()
    assert said[-1] == "retain: rank 1 was killed (SIGKILL); gave up after 3 restarts"
    assert len(said) == 4
