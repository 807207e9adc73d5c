"""Callbacks: told in order, without a trace in training, kept across a resume, named when they fail."""

import csv
import shutil
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

import retain
from retain.cli.main import run as command_line
from retain.errors import CallbackError, UsageError
from retain.train import checkpoint as store
from retain.train.callbacks.csv import TIMING
from retain.train.resume import resume
from retain.train.trainer import finished

SMALL = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,), "seed": 3,
         "checkpoint_every": 256}  # fmt: skip
QUIET = {"tensorboard": False, "record_episodes": False}


def ppo(**changes):
    return retain.PPO("CartPole-v1", **(SMALL | QUIET | changes))


def rows(folder, *, but=TIMING):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in but} for row in csv.DictReader(file)]


def parameters(agent):
    return {name: value.clone() for name, value in agent.policy.state_dict().items()}


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


class Diary(retain.Callback):
    """Notes every call; draws from torch's generator, which training must not notice."""

    def __init__(self):
        self.notes, self.count = [], 0

    def note(self, what):
        torch.rand(3)
        self.notes.append(what)

    def on_start(self, event):
        self.note("resumed" if event.run.resumed else "start")

    def on_row(self, event):
        event.metrics["mine"] = float(self.count)
        self.count += 1
        self.note(f"row {event.run.steps}")

    def on_episode(self, event):
        assert event.episode.length > 0
        self.note("episode")

    def on_checkpoint(self, event):
        assert (event.path / store.MODEL).exists()
        self.note(f"checkpoint {event.run.steps}")

    def on_evaluation(self, event):
        self.note(f"evaluation {event.run.steps}")

    def on_end(self, event):
        self.note(event.reason)

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = state["count"]


def test_a_run_tells_everything_in_order(tmp_path):
    diary = Diary()
    agent = ppo(eval_every=256, eval_episodes=2).learn(600, out=tmp_path, callbacks=[diary])
    assert diary.notes.count("episode") == agent.collector.statistics.total
    told = [note for note in diary.notes if note != "episode"]
    # Evaluation is a callback too, told of the row before the user's.
    assert told == [
        "start", "checkpoint 0", "row 128", "evaluation 256", "row 256", "checkpoint 256",
        "row 384", "evaluation 512", "row 512", "checkpoint 512", "evaluation 640", "row 640",
        "checkpoint 640", "finished",
    ]  # fmt: skip
    assert [row["mine"] for row in rows(tmp_path)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("algo", ["PPO", "DQN"])
def test_training_is_bit_identical_with_and_without_callbacks(tmp_path, algo):
    settings = SMALL if algo == "PPO" else {"seed": 3, "num_steps": 64, "learning_starts": 100,
                                             "hidden": (8,), "batch_size": 32}  # fmt: skip
    bare = getattr(retain, algo)("CartPole-v1", **settings, **QUIET).learn(600)
    full = getattr(retain, algo)("CartPole-v1", **settings, eval_every=100, eval_episodes=3)
    full.learn(600, out=tmp_path, callbacks=[Diary(), Diary], progress=True)
    assert_equal(parameters(bare), parameters(full))
    assert bare.collector.statistics.recent == full.collector.statistics.recent


class StopsAt(retain.Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_row(self, event):
        return event.run.steps >= self.steps


def test_a_run_that_is_asked_to_stop_resumes_as_one_never_stopped(tmp_path, capsys):
    settings = {"eval_every": 256, "eval_episodes": 2, "record_episodes": True}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    ppo(**settings).learn(1000, out=whole, callbacks=[Diary()])
    agent = ppo(**settings).learn(1000, out=parts, callbacks=[Diary(), StopsAt(256)], progress=True)
    assert agent.steps == 256
    assert not finished(agent)
    assert "StopsAt asked to stop at step 256" in capsys.readouterr().err
    again = Diary()
    resume(parts, callbacks=[again])
    assert again.notes[0] == "resumed"
    assert "checkpoint 256" not in again.notes
    assert rows(parts) == rows(whole)
    assert rows(parts)[-1]["mine"] == "7"  # it counted on
    for name in (store.MODEL, store.TRAINING):
        one, two = (load_file(store.find_checkpoint(run) / name) for run in (parts, whole))
        assert_equal(one, two)
    best = [store.find_checkpoint(run, "best") for run in (parts, whole)]
    assert_equal(*(load_file(path / store.MODEL) for path in best))
    for name in ("episodes.jsonl", "actions.bin"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


class Fails(retain.Callback):
    def __init__(self, hook):
        self.hook, self.ended, self.raised, self.told_more = hook, False, False, False

    def _maybe(self, hook):
        self.told_more |= self.raised and hook != "on_end"
        if hook == self.hook:
            self.raised = True
            raise ZeroDivisionError("no\nluck")

    def on_start(self, event):
        self._maybe("on_start")

    def on_row(self, event):
        if event.run.steps >= 256:
            self._maybe("on_row")

    def on_checkpoint(self, event):
        if event.run.steps >= 256:
            self._maybe("on_checkpoint")

    def on_end(self, event):
        self.ended = True
        self._maybe("on_end")

    def state(self):
        self._maybe("state")
        return {"fine": 1} if self.hook != "unreadable" else {"worse": object()}


@pytest.mark.parametrize(
    ("hook", "steps"),
    [("on_row", 256), ("on_checkpoint", 256), ("on_end", 640), ("state", 0), ("unreadable", 0)],
)
def test_a_callback_that_raises_stops_the_run_after_its_checkpoint(tmp_path, hook, steps):
    fails, diary = Fails(hook), Diary()
    where = "state" if hook == "unreadable" else hook
    with pytest.raises(CallbackError, match=f"callback Fails raised .* in {where}: .*"
                       f"; continue with: retain resume {tmp_path}") as caught:  # fmt: skip
        ppo().learn(600, out=tmp_path, callbacks=[fails, diary])
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError | TypeError)
    assert fails.ended
    assert not fails.told_more
    assert store.checkpoints(tmp_path)[-1].name == store.checkpoint_name(steps)
    assert [row["step"] for row in rows(tmp_path)][-1:] == ([str(steps)] if steps else [])
    assert diary.notes[-1] == ("finished" if hook == "on_end" else "failed")


def test_a_metric_that_comes_up_late_has_a_column_for_all_rows(tmp_path):
    class Late(retain.Callback):
        def on_row(self, event):
            if event.run.steps > 256:
                event.metrics["late"] = float(event.run.steps)

    folders = tmp_path / "whole", tmp_path / "parts"
    ppo().learn(600, out=folders[0], callbacks=[Late()])
    ppo().learn(600, out=folders[1], callbacks=[Late(), StopsAt(512)])
    # As if it had been killed right after its checkpoint at 256.
    for path in store.checkpoints(folders[1])[2:]:
        shutil.rmtree(path)
    resume(folders[1], callbacks=[Late()])
    for folder in folders:
        assert [row["late"] for row in rows(folder)] == ["nan", "nan", "384", "512", "640"]


def test_one_that_raises_at_the_start_leaves_nothing_behind(tmp_path):
    with pytest.raises(CallbackError, match="callback Fails raised ZeroDivisionError in on_start"):
        ppo().learn(600, out=tmp_path, callbacks=[Fails("on_start")])
    assert not store.checkpoints(tmp_path)
    ppo().learn(128, out=tmp_path)  # the same folder, mended


def test_what_a_saved_run_names_is_imported_only_when_that_is_said_again(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "strangers.py").write_text(
        "import retain\n"
        "class Stop(retain.Callback):\n"
        "    def on_row(self, event):\n"
        "        return event.run.steps == 256\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    flags = ["--num-envs", "4", "--num-steps", "32", "--batch-size", "64", "--no-tensorboard"]
    train = ["train", "ppo", "--steps", "600", *flags, "--out", str(run)]
    assert command_line([*train, "--callbacks", "strangers:Stop"]) == 0
    assert f"continue with: retain resume {run}" in capsys.readouterr().out
    assert command_line(["resume", str(run)]) == 2
    assert f"to allow it: retain resume {run} --callbacks strangers:Stop" in capsys.readouterr().err
    assert command_line(["resume", str(run), "--callbacks", "strangers:Stop"]) == 0
    assert "done; evaluate with" in capsys.readouterr().out


def test_one_that_is_missing_after_a_resume_is_named(tmp_path, capsys):
    ppo().learn(1000, out=tmp_path, callbacks=[Diary(), Diary(), StopsAt(256)])
    resume(tmp_path, progress=True)
    error = capsys.readouterr().err
    assert "warning: callback Diary: it has saved state but is missing now" in error
    assert "callback Diary#2" in error
    states = store.load_state(store.find_checkpoint(tmp_path))["progress"]["callbacks"]
    assert states["Diary"] == states["Diary#2"] == {"count": 2}  # still there for another resume


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("wandbb", "unknown callback 'wandbb'; did you mean 'wandb'"),
        ("nowhere_at_all:X", "cannot import 'nowhere_at_all' for the callback"),
        ("json:Nothing", "json has no callback 'Nothing'"),
        ("json:dumps", "json has no callback 'dumps'"),
        (len, "is not a callback"),
        (StopsAt, "cannot make the callback StopsAt: .*steps"),
        ("csv", "the callback 'csv' is already part of every run"),
    ],
)
def test_what_is_no_callback_is_one_clear_line(tmp_path, what, message):
    with pytest.raises(UsageError, match=message):
        ppo().learn(100, out=tmp_path / "run", callbacks=[what])
    assert not (tmp_path / "run").exists()


def test_a_registered_name_is_a_callback(tmp_path):
    @retain.register_callback("counting rows")
    class Counting(retain.Callback):
        seen: ClassVar[list] = []

        def on_row(self, event):
            self.seen.append(event.run.steps)

    ppo(callbacks=("counting rows",)).learn(256)
    assert Counting.seen == [128, 256]
    with pytest.raises(UsageError, match="a callback called 'counting rows' already exists"):
        retain.register_callback("counting rows")(StopsAt)
