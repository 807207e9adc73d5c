"""`retain train --seeds`: each run is the one that its seed alone would have been."""

import csv

from retain.cli.main import run
from retain.train.callbacks.csv import TIMING
from retain.train.plot import half_width

FLAGS = [
    "--num-envs",
    "4",
    "--num-steps",
    "32",
    "--batch-size",
    "64",
    "--hidden",
    "8",
    "--no-tensorboard",
]


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(file)]


def test_several_seeds_are_trained_and_summed_up(tmp_path, capsys):
    train = ["train", "ppo", "--steps", "256", *FLAGS]
    both = [*train, "--seeds", "2", "--out", str(tmp_path / "both")]
    assert run([*both, "--jobs", "1"]) == 0
    assert run([*train, "--seed", "2", "--out", str(tmp_path / "alone")]) == 0
    assert rows(tmp_path / "both" / "seed2") == rows(tmp_path / "alone")
    table = (tmp_path / "both" / "seeds.md").read_text().splitlines()
    assert table[4].startswith("| mean |")
    one, two, mean = (
        [float(cell.split("±")[0]) for cell in line.split("|")[2:-1]] for line in table[2:]
    )
    assert all(abs((a + b) / 2 - m) < 0.11 for a, b, m in zip(one, two, mean, strict=True))
    assert (tmp_path / "both" / "learning_curve.png").exists()
    capsys.readouterr()
    for more, message in (
        (["--seed", "3"], "seeds 1 to 2 are trained: leave seed out"),
        (["--steps", "300"], "holds another comparison"),
    ):
        assert run([*both, *more]) == 2
        assert message in capsys.readouterr().err
    assert run([*train, "--seeds", "0"]) == 2
    assert "seeds is 0 (expected at least 2)" in capsys.readouterr().err
    assert run([*train, "--jobs", "2"]) == 2
    assert "jobs would do nothing: seeds is 1" in capsys.readouterr().err


def test_the_interval_is_students():
    assert abs(half_width([1.0, 2.0, 3.0]) - 4.303 / 3**0.5) < 1e-3
