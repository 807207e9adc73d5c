"""A stranger's run runs no code, touches no file outside its folder, and is refused in one line."""

import json
import os
import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import retain
from retain.cli.main import run as cli
from retain.errors import CheckpointError, RetainError, UsageError
from retain.train import checkpoint as store
from retain.train.files import digest
from retain.train.playback import play_back
from retain.train.plot import plot
from retain.train.resume import resume
from retain.train.trainer import Loop

PPO = {"num_envs": 2, "num_steps": 16, "batch_size": 32, "epochs": 1, "hidden": (4,), "memory": "gru",
       "memory_hidden": 4, "checkpoint_every": 32, "seed": 3}  # fmt: skip
SAC = {"num_envs": 2, "num_steps": 16, "batch_size": 8, "hidden": (4,), "memory_hidden": 4,
       "memory": "lstm", "sequence_length": 4, "learning_starts": 16, "checkpoint_every": 32,
       "buffer_size": 200, "seed": 3}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strangers")
    retain.PPO("CartPole-v1", **PPO).learn(128, out=folder / "ppo")
    retain.SAC("PendulumNoVel-v1", **SAC).learn(450, out=folder / "sac")
    return folder


def sign(checkpoint):
    """What a forger does: the digests of the files as they are now."""
    files = [p for p in checkpoint.iterdir() if p.is_file() and p.name != store.MANIFEST]
    found = {path.name: digest(path.read_bytes()) for path in files}
    (checkpoint / store.MANIFEST).write_text(json.dumps({"sha256": found}))


def change(path, edit):
    facts = json.loads(path.read_text())
    edit(facts)
    path.write_text(json.dumps(facts))
    if (path.parent / store.MANIFEST).exists():
        sign(path.parent)


@pytest.fixture
def stranger(runs, tmp_path):
    shutil.copytree(runs / "ppo", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported."""
    (tmp_path / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'mark')!r}).touch()\n"
        "import gymnasium\ngymnasium.register('Evil-v0', lambda: gymnasium.make('CartPole-v1'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mark"
    sys.modules.pop("evil", None)


def test_an_environment_of_a_module_is_not_imported_unless_trusted(stranger, evil, capsys):
    for path in (stranger / "config.json", *stranger.glob("checkpoints/*/config.json")):
        change(path, lambda facts: facts.update(env="evil:Evil-v0"))
    for verb in ("eval", "playback", "resume"):
        extra = ["--steps", "256"] if verb == "resume" else []
        assert cli([verb, str(stranger), *extra]) == 2
        assert "imports the module 'evil'" in capsys.readouterr().err
    agent = retain.load(stranger)  # to act, it needs no environment
    agent.act(np.zeros(4, np.float32))
    with pytest.raises(UsageError, match=r"imports the module 'evil'.*trust=True"):
        agent.learn(10)
    assert not evil.exists()
    assert retain.load(stranger, env="CartPole-v1").evaluate(1).episodes == 1
    assert not evil.exists()
    assert cli(["eval", str(stranger), "--episodes", "1", "--trust"]) == 0
    assert evil.exists()


@pytest.mark.parametrize("field", ["memory", "encoder"])
def test_nor_is_a_part_of_the_network(stranger, evil, field):
    newest = store.checkpoints(stranger)[-1]
    change(newest / "config.json", lambda facts: facts["ppo"].update({field: "evil:Part"}))
    with pytest.raises(CheckpointError, match=rf"{field} is 'evil:Part', which imports"):
        retain.load(stranger)
    assert not evil.exists()


def test_a_saved_buffer_folder_is_not_written(runs, tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(runs / "sac", run)
    elsewhere.mkdir()
    (elsewhere / "obs.dat").write_text("precious")
    for path in (run / "config.json", *run.glob("checkpoints/*/config.json")):
        change(path, lambda facts: facts["sac"].update(buffer_folder=str(elsewhere)))
    resume(run, steps=500)
    assert (elsewhere / "obs.dat").read_text() == "precious"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["obs.dat"]
    assert (run / "buffer" / "obs.dat").exists()


def content_of(path):
    """Names and bytes of a file or of everything in a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(str(file), file.read_bytes()) for file in files]


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints", "learning_curve.png"])
def test_symbolic_links_are_refused(stranger, tmp_path, name, capsys):
    target = tmp_path / "target"
    (stranger / name).replace(target)
    (stranger / name).symlink_to(target)
    before = content_of(target)
    for verb in ("eval", "resume", "playback"):
        assert cli([verb, str(stranger)]) == 2
        assert f"{name} is a symbolic link" in capsys.readouterr().err
    os.mkfifo(stranger / "pipe")
    (stranger / name).unlink()
    with pytest.raises(CheckpointError, match="pipe is not a plain file"):
        play_back(stranger)
    assert content_of(target) == before


@pytest.mark.parametrize("name", [store.MODEL, store.TRAINING, store.STATE, store.CONFIG,
                                  store.MANIFEST])  # fmt: skip
def test_a_flipped_bit_in_a_checkpoint_is_refused(stranger, name):
    file = store.checkpoints(stranger)[-1] / name
    content = bytearray(file.read_bytes())
    for place in (len(content) // 2, len(content) - 9):
        content[place] ^= 1
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged|no valid JSON|unknown key"):
            retain.load(stranger)
        content[place] ^= 1


def test_a_flipped_bit_in_a_replay_is_refused_and_an_older_checkpoint_named(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "sac", run)
    file = sorted((run / "replay").iterdir())[-1]
    content = bytearray(file.read_bytes())
    content[-5] ^= 4
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{file.name} is damaged") as caught:
        resume(run, steps=500)
    second = store.checkpoints(run)[-2].name
    assert f"newest intact checkpoint is {second}: retain resume {run} --from {second}" in str(
        caught.value
    )
    assert cli(["resume", str(run), "--steps", "500", "--from", second]) == 0


@pytest.mark.parametrize(("edit", "said"), [
    (lambda line: line | {"first": 10**12}, "ends before the episode does"),
    (lambda line: line | {"length": 10**15}, "ends before the episode does"),
    (lambda line: line | {"first": -1}, "first is -1 (expected a whole number"),
    (lambda line: line | {"env": 7}, "env is 7 (expected 0 to 1)"),
    (lambda line: {"env": 0}, "has no 'episode'"),
])  # fmt: skip
def test_offsets_and_lengths_are_checked_against_the_files(stranger, edit, said, capsys):
    lines = (stranger / "episodes.jsonl").read_text().splitlines()
    (stranger / "episodes.jsonl").write_text(json.dumps(edit(json.loads(lines[0]))) + "\n")
    assert cli(["playback", str(stranger)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("name", "content"), [("metrics.csv", b""), ("actions.bin", None)])
def test_a_shortened_file_is_not_padded(stranger, name, content):
    shutil.rmtree(store.checkpoints(stranger)[-1])
    file = stranger / name
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} has 0 (bytes|rows), but had \d+"):
        resume(stranger)
    assert not file.exists() or file.read_bytes() == content


def test_sizes_are_bounded_before_memory_is_asked_for(stranger):
    newest = store.checkpoints(stranger)[-1]
    for field, value in (("hidden", [10**6, 10**6]), ("memory_hidden", 10**7)):
        original = (newest / "config.json").read_text()
        change(newest / "config.json", lambda facts, new={field: value}: facts["ppo"].update(new))
        with pytest.raises(RetainError, match="GiB of memory"):
            retain.load(stranger)
        (newest / "config.json").write_text(original)


ODD = st.sampled_from([
    0, -1, 1, 10**6, 10**12, 10**15, 10**40, -(10**12), 0.5, 1e308, float("inf"), float("nan"), "",
    "x", "../../elsewhere", "/etc/passwd", "evil:Thing", "\0", "a" * 3000, None, True, [], {}, [[]],
    [1, 2, 3], [10**9, 10**9], {"kind": "Dict", "entries": {}}, ["cpu"], "cuda:99", "meta",
])  # fmt: skip


def leaves(value, path=()):
    """The path of everything in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 4)):
            yield from leaves(value[index], (*path, index))


def mutate_json(draw, text):
    value = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(leaves(value))))
        new = draw(ODD)
        if not path:
            return json.dumps(new).encode()
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        how = draw(st.sampled_from(["replace", "remove", "rename"]))
        if how == "replace":
            inner[path[-1]] = new
        elif how == "rename" and isinstance(inner, dict):
            inner[str(path[-1])[:-1] + "z"] = inner.pop(path[-1])
        else:
            del inner[path[-1]]
    return json.dumps(value).encode()


def mutate_bytes(draw, content):
    how = draw(st.sampled_from(["flip", "cut", "insert", "nothing left"]))
    if how == "nothing left" or not content:
        return b""
    place = draw(st.integers(0, len(content) - 1))
    if how == "cut":
        return content[:place]
    if how == "insert":
        return content[:place] + draw(st.binary(min_size=1, max_size=9)) + content[place:]
    return (
        content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]
    )


def mutate_header(draw, content):
    """A tensor file with another header, its length made to fit."""
    size = struct.unpack("<Q", content[:8])[0]
    header = mutate_json(draw, content[8 : 8 + size])
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


@st.composite
def damage(draw):
    """Which run, which file in it, what to do to it, and whether its digest is forged."""
    algo = draw(st.sampled_from(["ppo", "sac"]))
    inside = draw(st.sampled_from(["config.json", "state.json", "manifest.json", "model.safetensors",
                                   "training.safetensors"]))  # fmt: skip
    beside = ["config.json", "episodes.jsonl", "metrics.csv", "actions.bin"]
    name = draw(st.sampled_from([f"checkpoints/LAST/{inside}"] * 4 + beside))
    return algo, name, draw(st.integers(0, 2**32)), draw(st.booleans())


@settings(max_examples=int(os.environ.get("RETAIN_FUZZ", "40")), deadline=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(data=st.data())
def test_a_damaged_run_is_refused_in_one_line_and_soon(runs, tmp_path_factory, data):
    algo, name, _, forged = data.draw(damage())
    folder = tmp_path_factory.mktemp("fuzz")
    run = folder / "run"
    shutil.copytree(runs / algo, run)
    last = store.checkpoints(run)[-1]
    file = run / name.replace("LAST", last.name)
    content = file.read_bytes()
    structured = data.draw(st.booleans())
    if structured and file.suffix == ".json":
        changed = mutate_json(data.draw, content)
    elif structured and file.suffix == ".safetensors":
        changed = mutate_header(data.draw, content)
    elif structured and file.suffix == ".jsonl":
        lines = content.splitlines()
        changed = b"\n".join([*lines[:-1], mutate_json(data.draw, lines[-1])]) + b"\n"
    else:
        changed = mutate_bytes(data.draw, content)
    file.write_bytes(changed)
    if forged and file.parent == last and file.name != store.MANIFEST:
        sign(last)
    outside = {path: path.read_bytes() for path in folder.rglob("*") if run not in path.parents
               and path.is_file()}  # fmt: skip
    began = time.monotonic()
    for attempt in (load_and_open, play_back, draw_curve, go_on):
        line = refusal(attempt, run)
        assert "\n" not in line
        assert len(line) < 2000
    assert time.monotonic() - began < 20
    after = {path: path.read_bytes() for path in folder.rglob("*") if run not in path.parents
             and path.is_file()}  # fmt: skip
    assert after == outside
    shutil.rmtree(folder)


def refusal(attempt, run):
    """The line that something is refused with; empty where it is not."""
    try:
        attempt(run)
    except RetainError as error:
        return str(error)
    return ""


def load_and_open(run):
    agent = retain.load(run)
    _ = agent.collector
    agent.act(agent.observation_space.sample())


def draw_curve(run):
    plot([run], run / "again.png")


def go_on(run):
    """All that a resume does but train."""
    loop = Loop._train
    Loop._train = lambda self, stop: "failed"
    try:
        resume(run, steps=10**6)
    finally:
        Loop._train = loop


def test_old_checkpoints_without_digests_load(stranger):
    newest = store.checkpoints(stranger)[-1]
    (newest / store.MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=r"manifest.json does not exist"):
        retain.load(stranger)
    state = json.loads((newest / store.STATE).read_text())
    (newest / store.STATE).write_text(json.dumps(state | {"format": 1}))
    assert retain.load(Path(stranger)).steps > 0
