"""Killed runs, over every configuration of the driver; RETAIN_KILLS of them (`make faults`)."""

import os
from pathlib import Path

import drive
import pytest

pytestmark = pytest.mark.faults


def test_every_killed_run_ends_as_one_that_was_left_alone(tmp_path):
    kills = int(os.environ.get("RETAIN_KILLS", "16"))
    kept = os.environ.get("RETAIN_KILLS_RESULTS")
    same, total = drive.drive(kills, Path(kept) if kept else tmp_path / "kills.csv", seed=1)
    print(f"{same} of {total}")
    assert total >= kills
    assert same == total
