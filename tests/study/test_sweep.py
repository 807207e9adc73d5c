"""A sweep: what is tried, what wins, what is said of it, and that no kill loses or doubles a trial."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from planted import Planted

import retain
from retain.cli.main import run as command
from retain.errors import UsageError
from retain.ranges import Log, OneOf
from retain.study.processes import Processes
from retain.study.statistics import iqm
from retain.study.sweep import Sweep
from retain.study.sweep_report import result_lines, trial_line
from retain.study.swept import Running, sweep
from retain.train.trainer import Interrupted

SMALL = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": [8],
         "memory_hidden": 8, "tensorboard": False}  # fmt: skip
RATE = {"learning_rate": Log(1e-4, 1e-2)}


def by_rate(plan):
    """Best at a learning rate of 1e-3; the default is worse."""
    rate = plan.settings.get("learning_rate", 1e-2)
    return 500 - 100 * abs(math.log10(rate) + 3)


def planted(tmp_path, value=by_rate, **changes):
    launcher = changes.pop("launcher", None) or Planted(value)
    facts = {"env": "CartPole-v1", "memory": "lstm", "steps": 1000, "trials": 12, "seeds": 1,
             "settings": SMALL, "search": RATE, "out": tmp_path, "pruner": "none",
             "fresh_seeds": 0}  # fmt: skip
    return sweep("ppo", launcher=launcher, **(facts | changes)), launcher


def shown(trials):
    return [(t.number, t.memory, t.values, t.value, t.reason) for t in trials]


def test_the_best_trial_is_found_compared_on_fresh_seeds_and_written_down(tmp_path):
    swept, launcher = planted(tmp_path, fresh_seeds=5)
    assert [trial.number for trial in swept.trials] == list(range(12))
    assert swept.trials[0].default
    assert swept.trials[0].value == 400
    assert swept.best.value == max(trial.value for trial in swept.trials) > 480
    assert swept.settings["learning_rate"] == swept.best.values["learning_rate"]
    trial_seeds = {plan.settings["seed"] for plan in launcher.plans if plan.trial}
    fresh = [plan for plan in launcher.plans if not plan.trial]
    assert trial_seeds == {1001}
    assert {plan.settings["seed"] for plan in fresh} == {1, 2, 3, 4, 5}
    assert len(fresh) == 10
    best = swept.best.value
    assert swept.compared.gain.value == pytest.approx(best - 400)
    assert swept.compared.verdict.headline.startswith("tuned helps: tuned against default +")
    lines = "\n".join(result_lines(swept))
    assert (
        f"minus default settings: {best - 400:+.4g} [{best - 400:.4g}, {best - 400:.4g}]" in lines
    )
    report = (tmp_path / "report.md").read_text()
    assert lines in report
    assert "| learning_rate | 0.001 |" in report
    assert (tmp_path / f"compare-{swept.best.number:04d}" / "report.md").exists()
    assert trial_line(swept.trials[0]) == "trial 0, memory lstm: 400 (the default settings)"


def test_the_preset_file_gives_the_agent_of_the_best_trial(tmp_path):
    swept, _ = planted(tmp_path, settings={**SMALL, "memory_options": ["chrono=30"]})
    changes = {k: v for k, v in swept.settings.items() if k != "memory"}
    settings = {**SMALL, "memory_options": ("chrono=30",), **changes}
    meant = retain.PPO("CartPole-v1", memory="lstm", **settings)
    read = retain.PPO("CartPole-v1", memory="lstm", preset=str(swept.preset))
    assert read.settings == meant.settings
    assert read.settings["gamma"] == swept.best.values["gamma"]
    other = retain.PPO("CartPole-v1", memory="gru", preset=str(swept.preset))
    assert other.settings["hidden"] == (64, 64)  # the file has a table for the LSTM alone


def test_one_lucky_seed_does_not_win(tmp_path):
    def lucky(plan):
        if "learning_rate" not in plan.settings:
            return 50.0
        first = plan.settings["seed"] == 1001
        steady = plan.settings["learning_rate"] > 1e-3
        return 300.0 if steady else 1000.0 * first

    swept, _ = planted(tmp_path, lucky, seeds=3)
    assert swept.best.value == 300
    assert {round(t.value) for t in swept.trials} == {50, round(float(iqm([1000, 0, 0]))), 300}
    assert swept.compared is None
    assert "the best trial's return is also its luck" in result_lines(swept)[0]


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_a_hopeless_learning_curve_ends_a_trial_before_its_other_seeds(tmp_path, pruner):
    swept, launcher = planted(tmp_path, seeds=2, pruner=pruner, trials=14)
    given_up = [trial for trial in swept.trials if trial.value is None]
    assert len(given_up) >= 2
    assert all(re.match(r"pruned after \d+% of a run", trial.reason) for trial in given_up)
    kept = [trial for trial in swept.trials if trial.value is not None]
    seeds = {p.folder.parent.name: 0 for p in launcher.plans}
    for plan in launcher.plans:
        seeds[plan.folder.parent.name] += 1
    assert all(seeds[f"{trial.number:04d}"] == 1 for trial in given_up)
    assert all(seeds[f"{trial.number:04d}"] == 2 for trial in kept)
    assert swept.best.value > 450


def test_a_trial_that_breaks_is_given_up_and_never_wins(tmp_path):
    def breaks(plan):
        return by_rate(plan) if plan.settings.get("learning_rate", 0) < 1e-3 else math.nan

    swept, _ = planted(tmp_path, breaks)
    broken = [trial for trial in swept.trials if trial.reason]
    assert {trial.reason for trial in broken} == {"a loss was not finite"}
    assert 0 < len(broken) < 11
    assert swept.best.value is not None
    with pytest.raises(UsageError, match="no trial has finished: a loss was not finite"):
        planted(tmp_path / "all", lambda plan: math.nan)


def test_settings_that_exclude_each_other_end_a_trial_with_the_reason(tmp_path):
    choices = {"num_steps": OneOf(48, 64), "sequence_length": OneOf(16, 32)}
    settings = {k: v for k, v in SMALL.items() if k not in ("num_steps", "batch_size")}
    swept, _ = planted(tmp_path, search=choices, settings=settings)
    bad = [trial for trial in swept.trials if trial.reason]
    assert all("sequence_length 32 does not divide num_steps 48" in trial.reason for trial in bad)
    assert bad
    assert len(bad) < 11


def test_if_nothing_beats_the_defaults_the_sweep_says_so(tmp_path):
    swept, launcher = planted(
        tmp_path, lambda plan: -float("learning_rate" in plan.settings), trials=5
    )
    assert swept.best.default
    assert swept.compared is None
    assert all(plan.trial for plan in launcher.plans)
    assert "No trial was better than the default settings." in (tmp_path / "report.md").read_text()


def test_several_memories_are_searched_each_in_its_own_space(tmp_path):
    def likes_mingru(plan):
        return by_rate(plan) + 100 * (plan.settings["memory"] == "mingru")

    swept, _ = planted(tmp_path, likes_mingru, memory=["none", "mingru"], trials=12, fresh_seeds=2)
    assert [trial.memory for trial in swept.trials[:2]] == ["none", "mingru"]
    assert swept.trials[1].default
    assert swept.best.memory == "mingru"
    for trial in swept.trials:
        assert ("mingru.longest" in trial.values) == (trial.memory == "mingru")
    for memory in ("none", "mingru"):
        agent = retain.PPO("CartPole-v1", memory=memory, preset=str(swept.preset))
        best = max((t for t in swept.trials if t.memory == memory), key=lambda t: t.value)
        if not best.default:
            assert agent.settings["learning_rate"] == best.values["learning_rate"]
    default, tuned = swept.compared.study.variants
    assert default.settings == {"memory": "mingru"}
    assert tuned.settings == swept.settings


@pytest.mark.parametrize("study", ["study.db", "study.journal"])
def test_a_sweep_that_died_goes_on_as_if_it_had_not(tmp_path, study):
    whole, _ = planted(tmp_path / "whole", seeds=2, pruner="median", trials=10)
    for runs in (1, 4, 6, 2):
        launcher = Planted(by_rate, dies_after=runs)
        with pytest.raises(Interrupted):
            planted(tmp_path / "parts", seeds=2, pruner="median", trials=10, launcher=launcher,
                    study=tmp_path / study)  # fmt: skip
    parts, launcher = planted(
        tmp_path / "parts", seeds=2, pruner="median", trials=10, study=tmp_path / study
    )
    assert shown(parts.trials) == shown(whole.trials)
    assert (tmp_path / study).stat().st_size > 0
    assert not (tmp_path / "parts" / "study.db").exists()


def test_more_trials_go_on_and_another_sweep_is_refused(tmp_path):
    few, _ = planted(tmp_path, trials=5)
    more, launcher = planted(tmp_path, trials=9)
    assert shown(more.trials[:5]) == shown(few.trials)
    assert len([plan for plan in launcher.plans if plan.trial]) == 4
    for changes in ({"steps": 2000}, {"memory": "gru"}, {"search": {}}, {"seeds": 2}):
        with pytest.raises(UsageError, match="holds another sweep; choose another --out"):
            planted(tmp_path, **changes)


@pytest.mark.parametrize(("changes", "message"), [
    ({"trials": 1}, "trials is 1 .expected at least 2"),
    ({"seeds": 0}, "seeds is 0"),
    ({"steps": 0}, "steps is 0"),
    ({"fresh_seeds": 1}, "fresh_seeds is 1 .expected 0, or at least 2"),
    ({"pruner": "medain"}, "unknown pruner 'medain'; did you mean 'median'"),
    ({"memory": ["lstn"]}, "unknown memory 'lstn'; did you mean 'lstm'"),
    ({"settings": {"epoch": 3}}, "unknown config field 'epoch'; did you mean 'epochs'"),
    ({"settings": {"seed": 3}}, "seed cannot be set"),
    ({"settings": {"memory": "gru"}}, "memory cannot be set"),
    ({"settings": {"batch_size": None}}, "batch_size is None"),
    ({"settings": {"target_kl": None, "clip_range_high": None, "max_grad_norm": None}},
     "max_grad_norm is None, which no preset file can hold"),
    ({"search": {"window": OneOf(2, 4)}}, "search window: it would do nothing with memory lstm"),
    ({"search": {"gama": "log:0.1:0.9"}}, "unknown setting 'gama'; did you mean 'gamma'"),
    ({"search": {"gamma": "log:0.9:0.1"}}, "search gamma: log:0.9:0.1 is empty"),
    ({"study": "sweep.sql"}, "study is sweep.sql .expected a file ending in .db or .journal"),
    ({"env": "CartPole-v9"}, "unknown environment 'CartPole-v9'"),
])  # fmt: skip
def test_what_cannot_be_swept_is_refused_before_anything_is_trained(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        planted(tmp_path / "out", **changes)
    assert not list((tmp_path / "out").glob("trials/*/"))


def test_a_file_that_is_no_storage_is_refused(tmp_path):
    (tmp_path / "other.db").write_text("nothing of the kind, but long enough to be read " * 20)
    with pytest.raises(UsageError, match=r"other\.db cannot be read as a study"):
        planted(tmp_path, study=tmp_path / "other.db")


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr("retain.study.swept.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'retain\[sweep\]'"):
        Running(Sweep("ppo", "CartPole-v1"), tmp_path, tmp_path / "study.db")


FLAGS = ["--env", "CartPole-v1", "--memory", "lstm", "--trials", "4", "--seeds", "2",
         "--steps", "1000", "--episodes", "2", "--fresh-seeds", "0", "--set",
         *(f"{k}={json.dumps(v)}" for k, v in SMALL.items()),
         "checkpoint_every=500"]  # fmt: skip


def facts_of(out):
    """Trials, and the metrics of every run without its times."""
    running = Running(described(), out, out / "study.db")
    found = {}
    for path in sorted(out.glob("trials/*/*/metrics.csv")):
        with path.open() as file:
            rows = [
                {k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)
            ]
        found[str(path.relative_to(out))] = rows
    return shown(running.trials.results()), found


def described():
    from retain.cli.flags import parse
    from retain.cli.sweep import SweepOptions, sweep_of

    return sweep_of("ppo", parse(SweepOptions, FLAGS, verb="sweep"))


def started(out, *more):
    line = [sys.executable, "-m", "retain", "sweep", "ppo", *FLAGS, "--out", str(out), *more]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(there, seconds=120):
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.02)
    assert there()


def test_a_killed_sweep_continues_without_losing_or_repeating_a_trial(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert command(["sweep", "ppo", *FLAGS, "--out", str(whole), "--jobs", "1"]) == 0
    killed = started(parts, "--jobs", "1")
    until(lambda: len(list(parts.glob("trials/0001/*/metrics.csv"))) > 0)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    done = {path: path.stat().st_mtime_ns for path in parts.glob("trials/0000/*/outcome.json")}
    assert len(done) == 2
    assert command(["sweep", "ppo", *FLAGS, "--out", str(parts), "--jobs", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert facts_of(parts) == facts_of(whole)


def test_two_processes_share_the_trials_of_one_sweep(tmp_path):
    both = [started(tmp_path, "--jobs", "1") for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    trials = [re.findall(r"^trial (\d+),", text, re.MULTILINE) for text in said]
    assert sorted(trials[0] + trials[1]) == ["0", "1", "2", "3"]
    found, runs = facts_of(tmp_path)
    assert [trial[0] for trial in found] == [0, 1, 2, 3]
    assert all(len(rows) > 0 for rows in runs.values())


def test_a_trial_is_the_run_that_its_settings_and_seed_alone_would_be(tmp_path):
    swept = sweep(
        "ppo", env="CartPole-v1", memory="lstm", trials=3, seeds=2, steps=600, episodes=2,
        fresh_seeds=0, settings=SMALL, out=tmp_path, launcher=Processes(1),
    )  # fmt: skip
    trial = swept.trials[2]
    changes = swept.sweep.changes(trial)
    returns = []
    for seed in (1001, 1002):
        settings = {**SMALL, "memory_hidden": 8, "memory": "lstm", **changes}
        agent = retain.PPO("CartPole-v1", **settings, seed=seed, threads=1).learn(600)
        returns.append(agent.evaluate(2).return_mean)
    assert trial.value == float(iqm(returns))
