"""Trackers, without any network: the same tracked run before and after a resume."""

import importlib.util
import json
import sqlite3
import time

import pytest

import retain
from retain.errors import UsageError
from retain.train.callbacks.registry import make_callback
from retain.train.resume import resume

SMALL = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,), "seed": 3,
         "tensorboard": False, "eval_every": 256, "eval_episodes": 1, "checkpoint_every": 256}  # fmt: skip
STEPS = [128, 256, 384, 512, 640]


class Stop(retain.Callback):
    def on_row(self, event):
        return event.run.steps == 384


def two_parts(folder, name):
    agent = retain.PPO("CartPole-v1", **SMALL, callbacks=(name,))
    agent.learn(600, out=folder, callbacks=[Stop()])
    resume(folder)


def records(log):
    """The records of a LevelDB log: blocks of 32 KiB, each piece behind a header of 7 bytes."""
    whole, at = b"", 7  # the file has a header too
    while at + 7 <= len(log):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        whole += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole one, or the last piece
            yield whole
            whole = b""


def tracked(files, kind):
    """Steps of the history, settings and artefacts in wandb's files."""
    steps, settings, artefacts = [], {}, []
    for file in files:
        for data in records(file.read_bytes()):
            record = kind()
            record.ParseFromString(data)
            if record.HasField("history"):
                items = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
                steps.append(int(items["_step"]))
                assert "return_mean" in items
            if record.HasField("run"):
                settings |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
            if record.HasField("artifact"):
                artefacts += [entry.path for entry in record.artifact.manifest.contents]
            elif record.request.HasField("log_artifact"):
                found = record.request.log_artifact.artifact
                artefacts += [entry.path for entry in found.manifest.contents]
    return steps, settings, artefacts


def test_wandb_offline(tmp_path, monkeypatch):
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    two_parts(tmp_path / "run", "wandb")
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert files[0].name == files[1].name  # one id
    until = time.monotonic() + 30  # a process of wandb's own writes the files
    steps, settings, artefacts = tracked(files, Record)
    while steps != STEPS and time.monotonic() < until:
        time.sleep(0.2)
        steps, settings, artefacts = tracked(files, Record)
    assert steps == STEPS
    assert settings["learning_rate"] == retain.PPO("CartPole-v1").config.learning_rate
    assert {"config.json", "metrics.csv", "learning_curve.png", "best/model.safetensors"} <= set(
        artefacts
    )


def test_mlflow_in_a_local_store(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its default store needs all of mlflow
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    two_parts(tmp_path / "run", "mlflow")
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("retain").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["num_envs"] == "4"
    assert run.data.params["env"] == "CartPole-v1"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "return_mean")] == STEPS
    assert [m.step for m in client.get_metric_history(run.info.run_id, "eval_return_mean")] == [
        256, 512, 640,
    ]  # fmt: skip
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"config.json", "metrics.csv", "learning_curve.png", "best"}


def test_mlflow_is_sent_no_row_twice(tmp_path, monkeypatch):
    """A run killed after its checkpoint had sent rows that its resume trains again."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    run = tmp_path / "run"
    retain.PPO("CartPole-v1", **SMALL, callbacks=("mlflow",)).learn(600, out=run)
    for late in sorted((run / "checkpoints").glob("step_*"))[-1:]:
        for file in late.iterdir():
            file.unlink()
        late.rmdir()
    resume(run)
    client = MlflowClient()
    [found] = client.search_runs([client.get_experiment_by_name("retain").experiment_id])
    assert [m.step for m in client.get_metric_history(found.info.run_id, "episodes")] == STEPS


@pytest.mark.trackio
def test_trackio_in_a_local_file(tmp_path, monkeypatch):
    import trackio.sqlite_storage
    import trackio.utils

    for module in (trackio.utils, trackio.sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    two_parts(tmp_path / "run", "trackio")
    with sqlite3.connect(tmp_path / "trackio" / "retain.db") as database:
        rows = database.execute("select run_name, step from metrics order by step").fetchall()
        artefacts = database.execute("select name from artifacts").fetchall()
    assert rows == [("run", step) for step in STEPS]
    assert {name for (name,) in artefacts} == {
        "run-config", "run-metrics", "run-learning_curve", "run-best",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_extra_is_one_clear_line(name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(UsageError, match=rf"pip install 'retain\[{name}\]'"):
        make_callback(name)
    assert importlib.util.find_spec("retain.train.callbacks." + name) is not None
