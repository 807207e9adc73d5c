"""Runs in local processes: what dies is resumed, what fails is said, what is stopped stops."""

import os
import signal
import subprocess
import sys
import time

import pytest
from small_runs import SETTINGS, numbers, plan, rows, until

from retain.errors import CallbackError, RunFailure, UsageError
from retain.study.launcher import Launcher, run_all
from retain.study.processes import Processes
from retain.train import checkpoint as store
from retain.train.trainer import Interrupted


def test_a_run_whose_process_is_killed_resumes_and_ends_the_same(tmp_path):
    assert isinstance(Processes(1), Launcher)
    plans = [plan(tmp_path / "calm"), plan(tmp_path / "killed", callbacks=("dying:Once",))]
    calm, killed = run_all(plans, tmp_path, Processes(2))
    assert (tmp_path / "killed" / "deaths").read_text() == "x"
    assert numbers(killed) == numbers(calm)
    assert rows(tmp_path / "killed") == rows(tmp_path / "calm")


def test_a_run_that_dies_again_and_again_is_given_up_in_one_line(tmp_path):
    always = plan(tmp_path / "run", callbacks=("dying:Always",))
    with pytest.raises(RunFailure, match=r"run: the run's process died 3 times, .* by SIGKILL"):
        run_all([always], tmp_path, Processes(1))
    assert (tmp_path / "run" / "deaths").read_text() == "xxx"


def test_what_a_run_raises_reaches_the_study_and_stops_the_others(tmp_path):
    bad, long = plan(tmp_path / "bad", callbacks=("dying:Broken",)), plan(tmp_path / "a", 10**7)
    with pytest.raises(CallbackError, match="planted"):
        run_all([long, bad], tmp_path, Processes(2))
    assert not (tmp_path / "a" / "outcome.json").exists()
    with pytest.raises(UsageError, match="gamma is 7"):
        run_all([plan(tmp_path / "b", gamma=7.0)], tmp_path, Processes(1))


def test_a_run_that_is_stopped_leaves_a_checkpoint_and_frees_its_slot(tmp_path):
    with Processes(1) as launcher:
        long = launcher.submit(plan(tmp_path / "long", 10**7, checkpoint_every=10**7))
        short = launcher.submit(plan(tmp_path / "short", 200))
        never = launcher.submit(plan(tmp_path / "never"))
        never.stop()
        until(lambda: len(rows(tmp_path / "long")) > 2 if (tmp_path / "long" / "metrics.csv").exists()
              else False, launcher)  # fmt: skip
        assert not short.done
        long.stop()
        until(lambda: long.done and short.done, launcher)
        for handle in (long, never):
            with pytest.raises(Interrupted):
                handle.result()
        assert short.result().evaluation > 0
    assert store.checkpoints(tmp_path / "long")[-1].name > store.checkpoint_name(0)
    assert not (tmp_path / "never").exists()


def test_runs_stop_with_a_checkpoint_when_the_study_is_killed(tmp_path):
    script = tmp_path / "study.py"
    script.write_text(
        "from pathlib import Path\n"
        "from retain.study.launcher import run_all\n"
        "from retain.study.outcome import RunPlan\n"
        "from retain.study.processes import Processes\n"
        "if __name__ == '__main__':\n"
        f"    plan = RunPlan('CartPole-v1', 'ppo', {SETTINGS | {'checkpoint_every': 10**7}!r},\n"
        f"                   10**7, Path({str(tmp_path / 'run')!r}))\n"
        "    run_all([plan], Path('.'), Processes(1))\n"
    )
    study = subprocess.Popen([sys.executable, str(script)])
    run = tmp_path / "run"
    end = time.monotonic() + 60
    while not ((run / "metrics.csv").exists() and len(rows(run)) > 2) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    while len(store.checkpoints(run)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    worker = int((run / "pid.lock").read_text())
    while os.path.exists(f"/proc/{worker}/cmdline") and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{worker}/cmdline")
    steps = len(rows(run))
    assert store.checkpoints(run)[-1].name == store.checkpoint_name(steps * 128)


def test_a_finished_run_is_read_and_not_started(tmp_path):
    (first,) = run_all([plan(tmp_path / "run", 200)], tmp_path, Processes(1))
    handle = Processes(1).submit(plan(tmp_path / "run", 200))
    assert handle.done
    assert handle.result() == first
