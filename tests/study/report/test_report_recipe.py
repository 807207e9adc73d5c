"""Settings beside the expected ones, and the commands that repeat a run."""

import shlex
import sys

import pytest
from report_runs import facts_of, write_comparison, write_run

import retain
from retain.cli.flags import parse
from retain.cli.train import agent_of, defaults
from retain.errors import CheckpointError
from retain.study.report.commands import commands
from retain.study.report.finding import collect
from retain.study.report.page import assemble
from retain.study.report.reading import read_run
from retain.study.report.recipe import differing, join, recipe, train_command
from retain.study.report.settings_tables import Recipes, what_changed, what_differs, what_followed


def run_of(tmp_path, facts):
    return read_run(write_run(tmp_path / "run", facts=facts))


def test_a_preset_alone_changes_nothing(tmp_path):
    made = recipe(run_of(tmp_path, facts_of("lstm")))
    assert made.changed == {}
    assert "preset" in made.source
    assert made.values["hidden"] == (64,)  # a list in the preset's file


def test_what_was_set_is_told_beside_what_it_would_have_been(tmp_path):
    run = write_run(tmp_path / "run", facts=facts_of("lstm", learning_rate=2e-3, num_envs=4))
    collection = collect([run])
    table = what_changed(collection, Recipes(collection, trust=False))
    assert table.rows == (
        ("num_envs", "4 (instead of 16)"),
        ("learning_rate", "0.002 (instead of 0.001)"),
    )
    assert table.caption == "Settings that differ from the preset for this task"


def test_derived_settings_come_with_their_reasons(tmp_path):
    run = write_run(tmp_path / "run", facts=facts_of("gru", env="MountainCar-v0", epochs=3))
    collection = collect([run])
    recipes = Recipes(collection, trust=False)
    rows = {row[0]: row[1:] for row in what_followed(collection, recipes).rows}
    assert rows["normalise_obs"] == ("yes", "gives vectors and small images mean 0 and spread 1")
    assert what_changed(collection, recipes).rows == (("epochs", "3 (instead of 4)"),)


def test_what_differs_between_groups(tmp_path):
    collection = collect([write_comparison(tmp_path / "cmp", seeds=1)])
    table = what_differs(collection, Recipes(collection, trust=False))
    assert table.head == ("setting", "none", "lstm")
    assert ("memory", "none", "lstm") in table.rows
    assert differing([{"seed": 1, "gamma": 0.9}, {"seed": 2, "gamma": 0.8}]) == ["gamma"]


def test_runs_of_different_tasks_are_not_set_against_each_other(tmp_path):
    write_run(tmp_path / "all" / "a", facts=facts_of(num_envs=3))
    write_run(tmp_path / "all" / "b", facts=facts_of(env="CartPole-v1", num_envs=5))
    write_run(tmp_path / "all" / "c", facts=facts_of("lstm", env="CartPole-v1", num_envs=5))
    collection = collect([tmp_path / "all"])
    recipes = Recipes(collection, trust=False)
    table = what_differs(collection, recipes)
    assert "num_envs" not in [row[0] for row in table.rows]
    assert set(table.tasks) == {"CartPole-v1"}
    changed = what_changed(collection, recipes)
    assert dict(zip(changed.tasks, changed.rows, strict=True)).keys() == set(collection.tasks)


def trained_by(line):
    """The settings of the agent that a `retain train` line makes."""
    retain_, train, algo, *rest = shlex.split(line)
    assert (retain_, train) == ("retain", "train")
    default = defaults(algo, rest)
    options = parse(type(default), rest, verb="train", default=default)
    agent = agent_of(algo, options, rest)
    return agent.description(), options


SETTINGS = [
    (retain.PPO, "CartPoleNoVel-v1", {"memory": "lstm"}),
    (retain.PPO, "CartPoleNoVel-v1", {"memory": "lstm", "hidden": (32, 16), "learning_rate": 1e-3,
                                      "normalise_reward": False, "target_kl": 0.05, "seed": 9}),
    (retain.PPO, "MountainCar-v0", {"memory": "gru", "memory_options": ("chrono=50",)}),
    (retain.PPO, "CartPole-v1", {"preset": "none", "log_info": ("speed", "a b"), "hide": (1, 3)}),
    (retain.PPO, "MountainCar-v0", {"preset": "none"}),
    (retain.PPO, "TMaze-v0", {"env_kwargs": {"length": 7}, "eval_every": 500}),
    (retain.SAC, "PendulumNoVel-v1", {"memory": "lstm", "preset": "sb3", "time_limit": 99}),
    (retain.DQN, "CartPole-v1", {"n_step": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "env", "given"), SETTINGS)
def test_the_command_makes_the_same_agent(tmp_path, kind, env, given):
    facts = kind(env, **given).description() | {"steps": 300}
    run = run_of(tmp_path, facts)
    made, options = trained_by(train_command(run, recipe(run)))
    for part in ("env", "run", run.algo):
        assert made[part] == read_run(run.folder).facts[part], part
    assert options.steps == 300


def test_the_commands_of_a_comparison(tmp_path):
    folder = write_comparison(tmp_path / "cmp", seeds=3)
    collection = collect([folder])
    lines = [one.line for one in commands(collection, Recipes(collection, trust=False))]
    assert lines[0] == (
        "retain compare --env CartPoleNoVel-v1 --algo ppo --memory none lstm --steps 10000 --seeds 3 "
        f"--episodes 5 --set num_envs=8 --out {folder}"
    )
    assert lines[1].startswith("retain train ppo --env CartPoleNoVel-v1 --memory none")
    assert "--seeds 3" in lines[2]
    assert lines[-2:] == [
        f"retain eval {folder}/none/seed1 --episodes 100",
        f"retain playback {folder}/none/seed1 --video episode.gif",
    ]


def test_no_setting_is_a_command_to_the_shell(tmp_path):
    bad = "CartPole-v1; rm -rf ~\n$(id) `id` \x1b]0;x\x07'"
    run = run_of(tmp_path, facts_of() | {"env": bad, "env_name": bad})
    line = train_command(run, recipe(run))
    assert "\n" not in line
    assert line.isprintable()
    words = shlex.split(line)
    assert words[words.index("--env") + 1] == "CartPole-v1; rm -rf ~ $(id) `id`  ]0;x '"
    assert join(["a", "b c"]) == "a 'b c'"


@pytest.mark.parametrize("field", ["memory", "env"])
def test_what_a_file_names_is_not_imported(tmp_path, monkeypatch, field):
    (tmp_path / "evil_report.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    facts = facts_of()
    if field == "env":
        facts["env"] = facts["env_name"] = "evil_report:Env-v0"
    else:
        facts["ppo"]["memory"] = "evil_report:Memory"
    folder = write_run(tmp_path / "run", facts=facts)
    page = assemble(collect([folder]))
    assert "evil_report" not in sys.modules
    assert "Learning curves" in page.main
    if field == "memory":
        assert "imports the module" in page.main
        with pytest.raises(CheckpointError, match="imports the module 'evil_report'"):
            recipe(read_run(folder))
        with pytest.raises(SystemExit, match="imported"):
            recipe(read_run(folder), trust=True)
