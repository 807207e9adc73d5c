"""The numbers behind the figures, and the tables beside them."""

import json

import numpy as np
import pytest
from report_runs import NAN, facts_of, write_comparison, write_metrics, write_run

from retain.study.report.finding import collect
from retain.study.report.health import left, told
from retain.study.report.panels import POINTS, constants, payload, thinned
from retain.study.report.reading import read_run
from retain.study.report.tables import (
    episodes_table,
    evaluations_table,
    finals_table,
    memory_table,
    runs_table,
    show,
)
from retain.train import checkpoint as store
from retain.train.plot import half_width


def panels_of(*folders):
    data = payload(collect(folders))
    json.dumps(data, allow_nan=False)
    return {panel["metric"]: panel for panel in data["panels"]}, data


def test_thinning_keeps_every_stretchs_extremes_and_both_ends():
    values = np.sin(np.arange(5000.0))
    values[1234], values[4321] = 50, -50
    kept = thinned(values, 100)
    assert len(kept) <= 102
    assert {0, 1234, 4321, 4999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    assert thinned(values[:100], 100).tolist() == list(range(100))


def test_a_curve_is_drawn_over_steps_and_over_time(tmp_path):
    panels, data = panels_of(write_run(tmp_path / "run", rows=4))
    assert data["runs"][0]["x"] == {"step": [100, 200, 300, 400], "seconds": [0.1, 0.2, 0.3, 0.4]}
    [curve] = panels["approx_kl"]["curves"]
    assert curve["rows"] is None
    assert len(curve["y"]) == 4
    assert panels["approx_kl"]["healthy"] == [0.003, 0.03]
    assert panels["entropy"]["section"] == "monitors"  # a monitor knows it; it has no range
    assert panels["entropy"]["healthy"] is None
    assert panels["policy_loss"]["section"] == "others"


def test_rows_without_a_number_are_left_out(tmp_path):
    evaluated = [NAN, 5.0, NAN, 9.0]
    panels, _ = panels_of(write_run(tmp_path / "run", rows=4, eval_return_mean=evaluated))
    trained, evaluation = panels["return_mean"]["curves"]
    # The window of recent episodes is full once a quarter of all 40 is over, in the first row.
    assert (trained["dash"], trained["rows"]) == (False, None)
    assert (evaluation["dash"], evaluation["rows"], evaluation["y"]) == (True, [1, 3], [5, 9])


def test_the_mean_and_its_interval_are_those_of_plot(tmp_path):
    panels, _ = panels_of(write_comparison(tmp_path / "cmp", seeds=3, rows=4))
    means = panels["return_mean"]["means"]
    assert [mean["group"] for mean in means] == [0, 1]
    assert means[0]["n"] == 3
    axis = means[0]["axes"]["step"]
    assert (axis["x"][0], axis["x"][-1]) == (100, 400)
    ends = [200 + seed for seed in (1, 2, 3)]
    assert axis["y"][-1] == pytest.approx(np.mean(ends))
    assert axis["half"][-1] == pytest.approx(half_width(ends), rel=1e-4)
    assert means[0]["axes"]["seconds"]["x"][-1] == 0.4


def test_a_constant_metric_is_said_and_not_drawn(tmp_path):
    folder = write_run(tmp_path / "run")
    panels, _ = panels_of(folder)
    assert "value_clip_fraction" not in panels
    assert constants(collect([folder])) == {"value_clip_fraction": 0.0}


def test_many_long_runs_are_drawn_with_a_bounded_number_of_points(tmp_path):
    for seed in range(1, 61):
        write_run(tmp_path / "many" / f"seed{seed}", seed=seed, rows=500, episodes=3)
    panels, data = panels_of(tmp_path / "many")
    points = sum(len(curve["y"]) for curve in panels["approx_kl"]["curves"])
    assert POINTS * 0.9 < points <= POINTS * 1.05
    assert len(json.dumps(data)) < 8e6


def test_what_left_its_range_by_hand(tmp_path):
    run = write_run(tmp_path / "a", rows=4, approx_kl=[0.001, 0.01, 0.05, 0.02])
    other = write_run(tmp_path / "b", rows=4, approx_kl=[0.01, 0.01, 0.01, 0.04])
    [found] = left([read_run(run), read_run(other)], 0)
    assert (found.metric, found.healthy) == ("approx_kl", "0.003 to 0.03")
    assert found.outside == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert (found.runs, found.of, found.last) == (2, 2, pytest.approx(0.03))


def test_one_pass_has_no_healthy_step(tmp_path):
    facts = facts_of()
    facts["algo"], facts["a2c"] = "a2c", facts.pop("ppo")
    del facts["a2c"]["clip_range"]
    folder = write_run(tmp_path / "run", facts=facts, approx_kl=np.linspace(0, 1e-9, 40))
    assert left([read_run(folder)], 0) == []
    assert panels_of(folder)[0]["approx_kl"]["healthy"] is None


def test_the_monitors_say_what_the_terminal_said(tmp_path):
    calm, late = np.full(30, 1e-7), np.full(30, 1e-7)
    late[20] = 0.5
    runs = [
        read_run(write_run(tmp_path / name, rows=30, first_log_ratio=values))
        for name, values in (("calm", calm), ("late", late))
    ]
    [found] = told(runs, 0)
    assert (found.metric, found.steps, found.of) == ("first_log_ratio", (2100.0,), 2)
    assert found.text.startswith("acting and training disagree: |log ratio| 0.5")


def test_monitors_do_without_columns_that_a_file_lacks(tmp_path):
    folder = write_run(tmp_path / "run")
    gap = {"step": [100.0, 200.0], "first_value_gap": [0.5, 0.5], "return_mean": [1.0, 2.0]}
    write_metrics(folder, gap)
    assert told([read_run(folder)], 0) == []


def test_tables_of_a_comparison(tmp_path):
    collection = collect([write_comparison(tmp_path / "cmp", seeds=2)])
    assert finals_table(collection).rows[-1] == ("lstm/seed2", "202", "100", "20")
    [row] = memory_table(collection).rows
    # Half of the gain, 110, is reached 5/12 of the way from every 2 steps to every 4.
    assert row == ("lstm", "20", "60", "180", "200", "1.4 steps")
    table = episodes_table(collection)
    assert table.rows[0][:3] == ("none", "60", "24.5")
    run = runs_table(collection).rows[0]
    assert run == ("none/seed1", "CartPoleNoVel-v1", "ppo", "none", "1", "4000 of 10,000", "400",
                   "201", "4 s")  # fmt: skip


def test_a_memory_that_did_not_learn_gets_no_length(tmp_path):
    folder = write_comparison(tmp_path / "cmp", seeds=2)
    for path in folder.glob("lstm/*/outcome.json"):
        store.write_json(path, json.loads(path.read_text()) | {"evaluation": 20.0, "random": 21.0})
    [row] = memory_table(collect([folder])).rows
    assert row[-1] == "not given: it did not learn"


def test_the_evaluations_table_has_the_last_and_the_best(tmp_path):
    columns = {"eval_return_mean": [NAN, 90.0, 50.0], "eval_return_std": [NAN, 1.0, 2.0]}
    table = evaluations_table(collect([write_run(tmp_path / "run", rows=3, **columns)]))
    assert table.rows == (("run", "2", "50", "2", "\u2013", "90", "200"),)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (None, "off"), (12_345, "12,345"), (0.00005, "5e-5"), ((64, 32), "64, 32"),
     ((), "none"), ({"size": 7}, '{"size": 7}'), (NAN, "\u2013"), (1e20, "1e20")],
)  # fmt: skip
def test_cells(value, text):
    assert show(value) == text
