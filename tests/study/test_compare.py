"""Comparing variants: what is trained, resumed, measured and said."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import retain
from retain.errors import UsageError
from retain.study import Study, compare
from retain.study.compare import Variant, variants_of
from retain.study.memory_length import WHOLE, effective_length, returns_when_cleared
from retain.study.outcome import Outcome
from retain.study.summary import memory_lines, write_report

SMALL = {"num_envs": 8, "num_steps": 42, "batch_size": 84, "hidden": [16], "memory_hidden": 16,
         "epochs": 2}  # fmt: skip


def study(**changes):
    facts = {"env": "TMaze-v0", "algo": "ppo", "variants": variants_of("memory", ["none", "lstm"]),
             "steps": 1000, "seeds": 2, "settings": SMALL, "episodes": 5}  # fmt: skip
    return Study(**(facts | changes))


def outcome(value, pace=1000.0, **cleared):
    return Outcome(value, value, value, pace, cleared, random=0.0)


def test_every_variant_and_seed_is_trained_once_and_read_afterwards(tmp_path):
    seen = []
    found = compare(study(), tmp_path, jobs=2, tick=lambda done, total: seen.append((done, total)))
    assert {name: len(runs) for name, runs in found.items()} == {"none": 2, "lstm": 2}
    assert found["none"][0].cleared == {}
    assert found["none"][0].random == found["lstm"][0].random
    assert set(found["lstm"][0].cleared) == {"1", "2", "4", "8", "16", "32", "64", WHOLE}
    assert seen[-1][1] == 4000
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    assert compare(study(), tmp_path, jobs=2) == found
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == times
    more = compare(study(seeds=3), tmp_path, jobs=2)
    assert more["lstm"][:2] == found["lstm"]
    assert len(more["lstm"]) == 3
    agent = retain.PPO("TMaze-v0", **retain.PPO.useful(SMALL), seed=2, threads=1)
    agent.learn(1000)
    assert agent.evaluate(5).return_mean == found["none"][1].evaluation
    with pytest.raises(UsageError, match="holds another comparison"):
        compare(study(steps=2000), tmp_path)
    path = write_report(study(), found, tmp_path)
    text = path.read_text()
    assert "2 seeds each" in text
    assert "Random actions reach" in text
    assert "a good return is 1." in text
    assert "| lstm |" in text
    assert (tmp_path / "compare.png").stat().st_size > 5000


def test_effective_length_is_where_half_of_the_gain_is():
    returns = {
        "1": -0.5,
        "2": -0.5,
        "4": -0.5,
        "8": 0.25,
        "16": 0.6,
        "32": 0.8,
        "64": 1.0,
        WHOLE: 1.0,
    }
    assert effective_length(returns) == pytest.approx(8 / 2, abs=1e-9)
    assert effective_length(dict.fromkeys(returns, 3.0)) is None
    assert effective_length(returns | {"8": 0.0, "16": 0.5}) == pytest.approx(12 / 2)
    none = [outcome(0.0), outcome(0.0)]
    runs = [outcome(1.0, **returns), outcome(1.1, **returns)]
    assert "4.0 steps" in memory_lines(study(), {"none": none, "lstm": runs})[-1]
    assert memory_lines(study(), {"none": none, "gru": none}) == []


def test_clearing_a_memory_at_every_step_is_having_none():
    agent = retain.PPO("RepeatPrevious-v0", memory="lstm", num_envs=4)
    found = returns_when_cleared(agent, (1, 64), 6)
    assert found["64"] == found[WHOLE]  # longer than an episode
    assert found["1"] == agent.evaluate(6, seed=7, clear_every=1).return_mean


def test_the_memory_is_cleared_every_so_many_steps_of_each_episode(monkeypatch):
    agent = retain.PPO("TMaze-v0", memory="lstm", num_envs=4)
    act, seen = retain.Agent.act, []

    def watched(self, obs, carry, reset, **named):
        seen.append(np.broadcast_to(reset, len(obs)).copy())
        return act(self, obs, carry, reset, **named)

    monkeypatch.setattr(retain.Agent, "act", watched)
    agent.evaluate(6, clear_every=4)  # an episode has 21 steps
    flags = np.stack(seen)[:21, 0]
    assert flags.nonzero()[0].tolist() == [0, 4, 8, 12, 16, 20]


def test_a_stopped_comparison_goes_on_and_ends_the_same(tmp_path):
    arguments = ["--env", "TMaze-v0", "--memory", "none", "gru", "--seeds", "2", "--steps", "6000",
                 "--episodes", "3", "--jobs", "2", "--set", *(f"{k}={json.dumps(v)}" for k, v in SMALL.items()),
                 "checkpoint_every=1000"]  # fmt: skip
    command = [sys.executable, "-m", "retain.cli", "compare", *arguments]
    whole = subprocess.run(
        [*command, "--out", str(tmp_path / "whole")], capture_output=True, text=True
    )
    assert whole.returncode == 0, whole.stderr
    assert "no verdict: " in whole.stdout  # two seeds can carry none
    assert "What to try" in whole.stdout
    out = tmp_path / "parts"
    stopped = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, start_new_session=True)  # fmt: skip
    until = time.monotonic() + 60
    while not list(out.glob("*/seed*/metrics.csv")) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(stopped.pid, signal.SIGINT)
    said, _ = stopped.communicate(timeout=60)
    assert stopped.returncode in (0, 130)
    if stopped.returncode == 130:
        assert "the same command continues" in said
    subprocess.run([*command, "--out", str(out)], capture_output=True, check=True)
    for path in (tmp_path / "whole").glob("*/seed*/outcome.json"):
        one = json.loads(path.read_text())
        two = json.loads((out / path.relative_to(tmp_path / "whole")).read_text())
        one.pop("steps_per_second"), two.pop("steps_per_second")
        assert one == two


@pytest.mark.parametrize(("changes", "message"), [
    ({"algo": "ppoo"}, "unknown algorithm 'ppoo'; did you mean 'ppo'"),
    ({"variants": (Variant("one", {}),)}, "variants: 1 .expected at least 2"),
    ({"seeds": 1}, "seeds: 1"),
    ({"settings": {"epoch": 3}}, "unknown config field 'epoch'; did you mean 'epochs'"),
    ({"settings": {"epochs": "three"}}, "epochs is 'three'"),
    ({"settings": {"seed": 3}}, "seed cannot be set"),
    ({"variants": variants_of("memory", ["none", "lstn"])}, "unknown memory 'lstn'"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        compare(study(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_refuses_in_one_line(capsys):
    from retain.cli.main import run

    for arguments, message in (
        ([], "give either --memory"),
        (["--memory", "none", "lstm", "--vary", "gamma", "0.9", "0.99"], "give either --memory"),
        (["--memory", "none", "lstm", "--set", "gamma"], "expected FIELD=VALUE"),
        (["--memry", "none"], "did you mean '--memory'"),
    ):
        assert run(["compare", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_vary_num_steps_is_judged_on_top_of_the_preset(tmp_path):
    # Alone, 512 steps of a memory would not fit the algorithm's default minibatches.
    lengths = study(
        env="CartPoleNoVel-v1", variants=variants_of("num_steps", [64, 512]),
        settings={"memory": "lstm"},
    )  # fmt: skip
    lengths.check()
    assert lengths.settings_of(lengths.variants[1]) == {"memory": "lstm", "num_steps": 512}
