"""Reading run folders: what is there, what is half written, and what is damaged."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_runs import columns_of, write_comparison, write_metrics, write_run

from retain.errors import UsageError
from retain.study.report import report
from retain.study.report.finding import collect
from retain.study.report.page import assemble
from retain.study.report.reading import MOST_EPISODES, read_run

FAULT = {"kind": "raised", "env_index": 2, "episode": 7, "seed": 11, "actions": [0, 1, 1],
         "traceback": "Traceback\n  line\nValueError: lost"}  # fmt: skip
CHECK = {"name": "seeds", "verdict": "fail", "measured": "2 of 5", "meaning": "m", "mend": "n"}


def test_everything_in_a_run_folder_is_read(tmp_path):
    folder = write_run(tmp_path / "run", memory="lstm", seed=4)
    (folder / "incidents.jsonl").write_text(json.dumps(FAULT) + "\n")
    (folder / "doctor.json").write_text(json.dumps([CHECK]))
    run = read_run(folder)
    assert run.problems == ()
    assert (run.env, run.algo, run.memory, run.seed) == ("CartPoleNoVel-v1", "ppo", "lstm", 4)
    assert run.metrics["return_mean"][[0, -1]].tolist() == [24, 204]
    # The episode of line n began in row 10 n and had 10 + n steps, in each of 16 environments.
    assert run.settings["num_envs"] == 16
    assert run.episodes.step[:2].tolist() == [10 * 16, 21 * 16]
    assert run.episodes.ret[-1] == 39
    assert run.incidents == (FAULT,)
    assert run.doctor == (CHECK,)


def test_a_row_that_is_still_being_written_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run", rows=5)
    with (folder / "metrics.csv").open("a") as file:
        file.write("600,60,1")
    with (folder / "episodes.jsonl").open("a") as file:
        file.write('{"env": 0, "epi')
    run = read_run(folder)
    assert run.problems == ()
    assert run.metrics["step"].tolist() == [100, 200, 300, 400, 500]
    assert run.episodes.total == 30


def test_of_many_episodes_spread_ones_and_all_recent_ones_are_read(tmp_path):
    folder = write_run(tmp_path / "run", episodes=3 * MOST_EPISODES)
    episodes = read_run(folder).episodes
    assert episodes.total == 3 * MOST_EPISODES
    assert MOST_EPISODES < len(episodes.ret) <= MOST_EPISODES + 100
    assert np.diff(episodes.length)[:100].tolist() == [3] * 100
    assert np.diff(episodes.length)[-99:].tolist() == [1] * 99


def test_infinite_values_are_no_numbers_to_draw(tmp_path):
    columns = columns_of(3) | {"approx_kl": [1.0, float("inf"), 1e300]}
    folder = write_run(tmp_path / "run")
    write_metrics(folder, columns)
    values = read_run(folder).metrics["approx_kl"]
    assert values[0] == 1
    assert np.isnan(values[1:]).all()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", "{", "config.json is not valid JSON"),
        ("config.json", "[]", "config.json holds a list"),
        ("config.json", '{"algo": 3}', "config.json: algo is 3"),
        ("metrics.csv", "a,b\n1,2\n", "metrics.csv has the columns a, b (expected step"),
        ("metrics.csv", "step,step\n1,2\n", "has the columns step, step"),
        ("metrics.csv", "step,x\n1,2\n3\n", "metrics.csv does not fit"),
        ("metrics.csv", "step,x,y\n1,2\n", "metrics.csv has 3 columns and rows of 2"),
        ("metrics.csv", "step,x\n1,two\n", "metrics.csv does not fit"),
        ("metrics.csv", b"step,x\n1,\xff\n", "metrics.csv does not fit"),
        ("episodes.jsonl", "nonsense\n", "episodes.jsonl, line 1 is not valid JSON"),
        ("episodes.jsonl", '{"env": -1}\n', "episodes.jsonl, line 1"),
        ("outcome.json", '{"evaluation": "high"}', "outcome.json: evaluation is 'high'"),
        ("outcome.json", '{"evaluation": 1, "cleared": [1]}', "cleared is [1]"),
        ("incidents.jsonl", '{"kind": "raised"}\n', "incidents.jsonl, line 1 has no 'env_index'"),
        ("doctor.json", '{"name": "x"}', "doctor.json is {'name': 'x'} (expected a list"),
        ("doctor.json", '[{"name": 1}]', "doctor.json[0]"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_and_the_rest_is_shown(tmp_path, name, content, told):
    folder = write_run(tmp_path / "run")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    run = read_run(folder)
    assert told in "\n".join(run.problems)
    page = assemble(collect([folder]))
    assert "What could not be read" in page.main
    assert ("Learning curves" in page.main) == (name != "metrics.csv")


def test_a_folder_with_a_link_is_not_read(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "incidents.jsonl").symlink_to("/etc/hostname")
    run = read_run(folder)
    assert "symbolic link" in run.problems[0]
    assert run.metrics == {}


@settings(max_examples=int(os.environ.get("RETAIN_FUZZ", "15")), deadline=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(data=st.data())
def test_random_damage_still_gives_a_page(tmp_path_factory, data):
    folder = write_comparison(
        tmp_path_factory.mktemp("damaged") / "cmp", seeds=2, rows=6, episodes=4
    )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(files))
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        new = data.draw(
            st.sampled_from([b"", b"\x00", b"[", b"null", b"-1", b"1e999", b'"', b"NaN"])
        )
        content[at : at + data.draw(st.integers(0, 9))] = new
        path.write_bytes(content)
    json.dumps(assemble(collect([folder])).data, allow_nan=False)  # raises nothing


def test_folders_without_runs_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, told in ((tmp_path / "empty", "holds no run"), (tmp_path / "none", "is missing")):
        with pytest.raises(UsageError, match=told):
            report(path, out=tmp_path / "page.html")
    with pytest.raises(UsageError, match="no run"):
        report(out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
