"""Copies of run folders: whole or not there, whatever happens in between."""

import json

import pytest

from retain.errors import UsageError
from retain.study.mirror import INDEX, Mirror
from retain.study.outcome import RunPlan, run_one
from retain.study.ray import copy_name
from retain.train import checkpoint as store

SETTINGS = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,),
            "checkpoint_every": 128, "tensorboard": False}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_one(RunPlan("CartPole-v1", "ppo", SETTINGS, 640, folder, episodes=2))
    return folder


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file() and path.name != "pid.lock"}  # fmt: skip


def test_a_copy_is_what_was_copied(whole, tmp_path):
    mirror = Mirror(f"file://{tmp_path}/store")
    assert mirror.index("run") is None
    assert not mirror.pull("run", tmp_path / "back")
    mirror.push(whole, "run")
    (tmp_path / "back" / "old").mkdir(parents=True)
    assert mirror.pull("run", tmp_path / "back")
    assert content(tmp_path / "back") == content(whole)
    assert not (tmp_path / "back" / "old").exists()


def test_what_is_written_while_a_checkpoint_is_made_stays_out(whole, tmp_path):
    half = whole / store.FOLDER / ".step_9.tmp-1"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    mirror = Mirror(f"file://{tmp_path}/store")
    mirror.push(whole, "run")
    (half / "model.safetensors").unlink()
    half.rmdir()
    assert set(mirror.index("run")) == set(content(whole))


@pytest.mark.parametrize("at_the_index", [True, False])
def test_a_copy_that_is_cut_short_leaves_the_one_before(tmp_path, monkeypatch, at_the_index):
    mirror, growing = Mirror(f"file://{tmp_path}/store"), tmp_path / "growing"
    growing.mkdir()
    (growing / "metrics.csv").write_text("step\n1\n")
    mirror.push(growing, "run")
    (growing / "metrics.csv").write_text("step\n1\n2\n")
    (growing / "more").write_text("x")
    write = mirror._write

    def dies(path, what):
        if path.endswith(INDEX) == at_the_index:
            raise KeyboardInterrupt
        write(path, what)

    monkeypatch.setattr(mirror, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        mirror.push(growing, "run")
    monkeypatch.undo()
    mirror.pull("run", tmp_path / "back")
    assert content(tmp_path / "back") == {"metrics.csv": b"step\n1\n"}
    mirror.push(growing, "run")  # and what nobody names any more is cleared away
    kept = {path.name for path in (tmp_path / "store" / "run").iterdir()}
    assert kept == {INDEX, *json.loads((tmp_path / "store" / "run" / INDEX).read_text()).values()}


def test_a_checkpoint_that_is_cleared_away_meanwhile_is_no_failure(whole, tmp_path, monkeypatch):
    mirror, send, tries = Mirror(f"file://{tmp_path}/store"), Mirror._send, []

    def first_time(self, folder, place):
        tries.append(1)
        if len(tries) == 1:
            raise FileNotFoundError("cleared away")
        return send(self, folder, place)

    monkeypatch.setattr(Mirror, "_send", first_time)
    mirror.push(whole, "run")
    assert len(tries) == 2
    assert set(mirror.index("run")) == set(content(whole))


def test_a_best_checkpoint_that_is_replaced_meanwhile_is_copied_again(tmp_path, monkeypatch):
    mirror, send, folder = Mirror(f"file://{tmp_path}/store"), Mirror._send, tmp_path / "run"
    best = folder / store.FOLDER / store.BEST
    best.mkdir(parents=True)
    (best / "model").write_text("old")

    def replaced(self, source, place):
        index = send(self, source, place)
        if (best / "model").read_text() == "old":
            best.rename(best.with_name(".best.old"))
            best.mkdir()
            (best / "model").write_text("new")
        return index

    monkeypatch.setattr(Mirror, "_send", replaced)
    mirror.push(folder, "run")
    mirror.pull("run", tmp_path / "back")
    assert (tmp_path / "back" / store.FOLDER / store.BEST / "model").read_text() == "new"


@pytest.mark.parametrize(("url", "said"), [
    ("nothing://bucket/x", "store is 'nothing://bucket/x': Protocol not known: nothing"),
    ("adl://bucket/x", "store is 'adl://bucket/x': .*adlfs"),
])  # fmt: skip
def test_a_place_that_cannot_be_reached_is_one_line(url, said):
    with pytest.raises(UsageError, match=f"{said}.* \\(expected an fsspec URL"):
        Mirror(url)


def test_a_copy_has_the_name_of_its_run_wherever_the_study_lies(tmp_path):
    plan = RunPlan("CartPole-v1", "ppo", SETTINGS, 640, tmp_path / "a" / "lstm" / "seed1")
    moved = RunPlan("CartPole-v1", "ppo", SETTINGS, 640, tmp_path / "b" / "lstm" / "seed1")
    other = RunPlan("CartPole-v1", "ppo", SETTINGS, 641, tmp_path / "a" / "lstm" / "seed1")
    assert copy_name(plan) == copy_name(moved)
    assert copy_name(plan) != copy_name(other)
    assert copy_name(plan).startswith("lstm-seed1-")
