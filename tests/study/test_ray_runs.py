"""Runs on Ray: what dies with its node is resumed elsewhere, and changes no number."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import SETTINGS, numbers, plan, rows, until

from retain.cli.main import run
from retain.errors import CallbackError, RunFailure, UsageError
from retain.study.compare import Study, compare, variants_of
from retain.study.launcher import Launcher, run_all, steps_of
from retain.study.processes import Processes
from retain.train import checkpoint as store
from retain.train.trainer import Interrupted

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def address(cluster):
    cluster.add_node(num_cpus=2)
    return cluster.address


@pytest.fixture
def launcher(address):
    from retain.study.ray import Ray

    return lambda **more: Ray(**{"address": address} | more)


def test_a_study_whose_node_is_killed_has_the_numbers_of_an_undisturbed_one(
    cluster, launcher, tmp_path
):
    settings = {k: v for k, v in SETTINGS.items() if k not in ("seed", "threads")}
    settings |= {"callbacks": ("dying:Noted",)}
    study = Study("CartPole-v1", "ppo", variants_of("memory", ["none", "gru"]), 12_000, 2,
                  settings, episodes=2)  # fmt: skip
    calm = compare(study, tmp_path / "calm", launcher=Processes(2))
    doomed = cluster.add_node(num_cpus=2)
    killed = []

    def tick(done, total):
        if not killed and done > total / 8:
            cluster.remove_node(doomed, allow_graceful=False)
            killed.append(done)

    rough = compare(study, tmp_path / "rough", launcher=launcher(), tick=tick)
    assert killed
    for name, outcomes in calm.items():
        assert list(map(numbers, rough[name])) == list(map(numbers, outcomes))
    for path in (tmp_path / "calm").rglob("metrics.csv"):
        other = tmp_path / "rough" / path.relative_to(tmp_path / "calm").parent
        assert rows(other) == rows(path.parent)
    starts = [path.read_text().split() for path in (tmp_path / "rough").rglob("starts")]
    assert ["begun", "resumed"] in starts  # from its checkpoint, not from the beginning
    assert not list((tmp_path / "rough").rglob(".shared-*"))


def test_a_run_whose_process_is_killed_resumes_and_ends_the_same(launcher, tmp_path):
    (calm,) = run_all([plan(tmp_path / "calm")], tmp_path, Processes(1))
    assert isinstance(launcher(), Launcher)
    once = plan(tmp_path / "killed", callbacks=("dying:Once",))
    (killed,) = run_all([once], tmp_path, launcher())
    assert (tmp_path / "killed" / "deaths").read_text() == "x"
    assert numbers(killed) == numbers(calm)
    assert rows(tmp_path / "killed") == rows(tmp_path / "calm")


def test_a_run_that_gets_no_further_is_given_up_in_one_line(launcher, tmp_path):
    always = plan(tmp_path / "run", callbacks=("dying:Always",))
    with pytest.raises(RunFailure, match=r"run: the run died 3 times without .*, .* by SIGKILL"):
        run_all([always], tmp_path, launcher())
    assert (tmp_path / "run" / "deaths").read_text() == "xxx"


def test_what_a_run_raises_reaches_the_study_and_stops_the_others(launcher, tmp_path):
    bad, long = plan(tmp_path / "bad", callbacks=("dying:Broken",)), plan(tmp_path / "a", 10**7)
    with pytest.raises(CallbackError, match="planted"):
        run_all([long, bad], tmp_path, launcher())
    assert not (tmp_path / "a" / "outcome.json").exists()


def test_a_run_that_is_stopped_leaves_a_checkpoint_and_frees_its_slot(launcher, tmp_path):
    with launcher(jobs=1) as one:
        assert one.slots == 1
        long = one.submit(plan(tmp_path / "long", 10**7, checkpoint_every=10**7))
        short = one.submit(plan(tmp_path / "short", 200))
        never = one.submit(plan(tmp_path / "never"))
        never.stop()
        until(lambda: steps_of(tmp_path / "long") > 300, one)
        assert not short.done
        long.stop()
        until(lambda: long.done and short.done, one)
        for handle in (long, never):
            with pytest.raises(Interrupted):
                handle.result()
        assert short.result().evaluation > 0
    assert store.checkpoints(tmp_path / "long")[-1].name > store.checkpoint_name(0)
    assert not (tmp_path / "never").exists()


def test_machines_that_share_no_folder_send_runs_through_a_store(
    cluster, launcher, tmp_path, monkeypatch
):
    monkeypatch.setattr("retain.study.ray.COPY_EVERY", 0.5)
    monkeypatch.setattr("retain.study.ray.FOLLOW", 0.1)
    (calm,) = run_all([plan(tmp_path / "calm", 12_000)], tmp_path, Processes(1))
    url = f"file://{tmp_path}/store"
    mine = plan(tmp_path / "here" / "run", 12_000, callbacks=("dying:Noted",))
    doomed = cluster.add_node(num_cpus=1, resources={"doomed": 1})
    with launcher(store=url) as one:
        one.guardian = one.guardian.options(resources={"doomed": 0.1})
        handle = one.submit(mine)
        until(lambda: steps_of(mine.folder) > 2000, one)  # its metrics come here meanwhile
        assert [path.name for path in mine.folder.iterdir()] == ["metrics.csv"]
        cluster.remove_node(doomed, allow_graceful=False)
        for left in Path("/tmp/retain-runs").glob("here-run-*"):  # another machine has another disk
            left.rename(left.with_name("of-the-dead-machine"))
        other = cluster.add_node(num_cpus=1, resources={"doomed": 1})
        until(lambda: handle.done, one)
    cluster.remove_node(other)
    assert numbers(handle.result()) == numbers(calm)
    assert rows(mine.folder) == rows(tmp_path / "calm")
    assert (mine.folder / "starts").read_text().split() == ["begun", "resumed"]
    elsewhere = replace(mine, folder=tmp_path / "elsewhere" / "here" / "run")
    again = launcher(store=url).submit(elsewhere)  # done: fetched, and not started
    assert again.done
    assert again.result() == handle.result()


def test_a_folder_that_is_not_shared_is_told(launcher, tmp_path, monkeypatch):
    monkeypatch.setattr("retain.study.ray.Ray.token", lambda self, folder: (f"{folder}/no", "x"))
    with pytest.raises(UsageError, match=r"run is not shared: a node does not see .* as the store"):
        run_all([plan(tmp_path / "run")], tmp_path, launcher())


def test_a_node_with_other_versions_is_told(launcher, tmp_path):
    one = launcher()
    one.versions = one.versions | {"torch": "0.0.1", "retain": "99.0"}
    with pytest.raises(UsageError, match=r"has other versions: retain .* \(here 99.0\), torch 2"):
        run_all([plan(tmp_path / "run")], tmp_path, one)
    assert not (tmp_path / "run").exists()


def test_a_run_that_wants_a_gpu_reserves_one(launcher, tmp_path):
    with pytest.raises(UsageError, match="device is 'cuda', but a run reserves no GPU"):
        launcher().submit(plan(tmp_path / "run", device="cuda"))
    with pytest.warns(UserWarning, match=r"a run asks for 1 CPU and 0.5 GPU, which no node"):
        one = launcher(gpus=0.5)
    handle = one.submit(plan(tmp_path / "run"))
    with one:
        one.wait(0.5)
        handle.stop()
        until(lambda: handle.done, one)
    with pytest.raises(Interrupted):
        handle.result()


def test_versions_apart_from_the_cluster_are_one_line(address, monkeypatch):
    code = (
        "import ray, sys\n"
        "from retain.cluster import connect\n"
        "ray.__version__ = '9.9.9'\n"
        "try:\n"
        f"    connect({address!r})\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    [line] = said.stdout.splitlines()
    assert line.startswith("UsageError the Ray at 127.0.0.1:")
    assert "has other versions than this process" in line
    assert "9.9.9" in line


def descendants(pid):
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids):
    """Local addresses, in hexadecimal, where these processes listen."""
    sockets = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(path))
            except OSError:
                continue
    lines = [line.split() for name in ("tcp", "tcp6")
             for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]  # fmt: skip
    return {line[1].rpartition(":")[0] for line in lines
            if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}  # fmt: skip


def test_a_ray_of_ones_own_listens_on_the_loopback_and_goes_with_the_study(tmp_path):
    """The study is killed: no process is left, and its run can be resumed."""
    script = tmp_path / "study.py"
    script.write_text(
        "from pathlib import Path\n"
        "from retain.study.launcher import run_all\n"
        "from retain.study.outcome import RunPlan\n"
        "from retain.study.ray import Ray\n"
        "if __name__ == '__main__':\n"
        f"    plan = RunPlan('CartPole-v1', 'ppo', {SETTINGS!r},\n"
        f"                   10**7, Path({str(tmp_path / 'run')!r}))\n"
        "    run_all([plan], Path('.'), Ray())\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    study = subprocess.Popen([sys.executable, str(script)], env=clean)
    folder, end = tmp_path / "run", time.monotonic() + 120
    while steps_of(folder) < 300 and time.monotonic() < end:
        time.sleep(0.1)
    family = descendants(study.pid)
    assert len(family) > 4
    assert listening(family) <= {"0100007F", "0000000000000000FFFF00000100007F",
                                 "00000000000000000000000001000000"}  # fmt: skip
    assert listening(family)
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    while any(map(alive, family)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in family if alive(pid)]
    assert store.checkpoints(folder)[-1].name > store.checkpoint_name(0)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_command_line_compares_on_a_cluster(address, tmp_path, capsys):
    status = run(["compare", "--env", "CartPole-v1", "--memory", "none", "gru", "--seeds", "2",
                  "--steps", "512", "--episodes", "2", "--set", "num_envs=4", "num_steps=32",
                  "--launcher", "ray", "--address", address, "--run-cpus", "0.5",
                  "--out", str(tmp_path / "out")])  # fmt: skip
    assert status == 0
    assert "report:" in capsys.readouterr().out
    assert len(list((tmp_path / "out").rglob("outcome.json"))) == 4
