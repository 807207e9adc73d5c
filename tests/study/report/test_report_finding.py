"""Which runs a page shows, in which groups, in which colours."""

import shutil

from report_runs import facts_of, write_comparison, write_run

from retain.study.report.finding import collect
from retain.train.plot import colours


def shape(collection):
    return {
        group.name: [one.name for one in collection.members(number)]
        for number, group in enumerate(collection.groups)
    }


def test_a_comparisons_seeds_are_groups_and_the_baseline_comes_first(tmp_path):
    collection = collect([write_comparison(tmp_path / "cmp", seeds=2)])
    assert shape(collection) == {
        "none": ["none/seed1", "none/seed2"],
        "lstm": ["lstm/seed1", "lstm/seed2"],
    }
    assert [one.text[:5] for one in collection.summaries] == ["# ppo"]
    assert [group.colour for group in collection.groups] == colours(["none", "lstm"])


def test_seeds_side_by_side_are_one_group(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "many" / f"seed{seed}", memory="gru", seed=seed)
    collection = collect([tmp_path / "many"])
    assert shape(collection) == {"ppo gru": ["seed1", "seed2"]}
    assert collection.title == "many"


def test_a_folder_of_anything_is_searched(tmp_path):
    write_comparison(tmp_path / "all" / "cmp", seeds=1)
    shutil.copytree(tmp_path / "all" / "cmp" / "lstm", tmp_path / "all" / "cmp" / "tune" / "trial")
    write_run(tmp_path / "all" / "deep" / "er" / "run", facts=facts_of(env="CartPole-v1"))
    write_run(tmp_path / "all" / ".hidden")
    collection = collect([tmp_path / "all", tmp_path / "all" / "cmp"])
    assert shape(collection) == {
        "cmp/none": ["cmp/none/seed1"],
        "ppo none": ["deep/er/run"],
        "cmp/lstm": ["cmp/lstm/seed1"],
    }
    assert collection.tasks == ["CartPoleNoVel-v1", "CartPole-v1"]
    assert collection.studies == (tmp_path / "all" / "cmp",)


def test_no_link_is_followed(tmp_path):
    write_run(tmp_path / "elsewhere" / "run")
    write_run(tmp_path / "here" / "run")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "report.md").symlink_to("/etc/hostname")
    collection = collect([tmp_path / "here"])
    assert [one.name for one in collection.runs] == ["run"]
    assert collection.summaries == ()
    assert "report.md is not a plain file" in collection.problems[0]


def test_seeds_of_two_variants_with_the_same_memory_are_two_groups(tmp_path):
    for variant in ("slow", "quick"):
        for seed in (1, 2):
            write_run(tmp_path / "all" / variant / f"seed{seed}", seed=seed)
    assert set(shape(collect([tmp_path / "all"]))) == {"slow", "quick"}
