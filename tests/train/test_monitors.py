"""Live monitors: the numbers are what they say, each range is watched, and sound runs stay quiet."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

import retain
from retain.algos import diagnostics
from retain.data.rollout import Rollout
from retain.memory import make_memory
from retain.nn.torso import Torso
from retain.train.callbacks.monitors import HEALTHY, RULES, Healthy, Monitor
from retain.types import tree_map

ROW = {"return_mean": 10.0, "first_log_ratio": 1e-7, "approx_kl": 0.01, "clip_fraction": 0.1,
       "value_clip_fraction": 0.0, "entropy": 0.6, "value_std": 1.0, "target_std": 1.2,
       "memory_gradient": 0.3, "memory_saturation": 0.1, "carry_drift": 0.05,
       "masked_fraction": 0.1, "alpha": 0.2, "first_value_gap": 1e-6, "q_mean": 5.0}  # fmt: skip
BAD = {"first_log_ratio": 0.1, "approx_kl": 0.5, "clip_fraction": 0.9, "value_clip_fraction": 0.9,
       "entropy": 1e-4, "value_std": 1e-3, "memory_gradient": 1e-8, "memory_saturation": 0.99,
       "carry_drift": 9.0, "masked_fraction": 0.9, "alpha": 1e3,
       "first_value_gap": 0.1}  # fmt: skip

STILL = {"approx_kl": 1e-3, "entropy": 0.7}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.metric)
def test_a_metric_out_of_range_for_long_enough_is_told_once(rule):
    monitor = Monitor()
    assert list(monitor.watch(ROW)) == []
    bad = ROW | (STILL if "hardly" in rule.text else {rule.metric: BAD[rule.metric]})
    for _ in range(rule.rows - 1):
        assert list(monitor.watch(bad)) == []
    assert list(monitor.watch(ROW)) == []  # well again: the count begins anew
    told = [line for _ in range(3 * rule.rows) for line in monitor.watch(bad)]
    [(metric, line)] = told
    assert metric == rule.metric
    assert line.endswith(f"(docs/metrics.md#{rule.metric})")


def test_a_resumed_run_neither_forgets_nor_repeats():
    rule = next(rule for rule in RULES if rule.metric == "value_clip_fraction")
    bad = ROW | {rule.metric: BAD[rule.metric]}
    before, after = Monitor(), Monitor()
    list(before.watch(ROW))
    for _ in range(rule.rows - 1):
        assert list(before.watch(bad)) == []
    after.restore(json.loads(json.dumps(before.state())))
    assert len(list(after.watch(bad))) == 1
    again = Monitor()
    again.restore(json.loads(json.dumps(after.state())))
    assert [line for _ in range(2 * rule.rows) for line in again.watch(bad)] == []


def test_what_is_missing_or_nan_is_no_reason():
    monitor = Monitor()
    bare = {"return_mean": math.nan} | dict.fromkeys(BAD, math.nan)
    assert [x for _ in range(50) for x in monitor.watch(bare)] == []
    assert [x for _ in range(50) for x in monitor.watch({"return_mean": 1.0})] == []


def test_small_steps_are_fine_while_the_entropy_falls():
    monitor = Monitor()
    assert [x for _ in range(50) for x in monitor.watch(ROW | {"approx_kl": 1e-3})] == []


def test_every_rule_has_its_section_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for rule in RULES:
        assert f"\n## {rule.metric}\n" in text


def test_the_documentation_has_the_same_healthy_ranges():
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    number = r"[\d.e-]*\d"
    pattern = rf"Healthy: (below {number}|above {number}|{number} to {number})"
    said = {name: re.findall(pattern, body) for name, body in sections.items()}
    assert {name: found[0] for name, found in said.items() if found} == {
        name: str(healthy) for name, healthy in HEALTHY.items()
    }


def test_a_healthy_range_holds_its_bounds():
    values = [0.0, 0.003, 0.03, 0.031, math.nan]
    assert Healthy(0.003, 0.03).holds(values).tolist() == [False, True, True, False, False]
    assert Healthy(low=0.003).holds(values).tolist() == [False, True, True, True, False]
    assert Healthy(high=0.03).holds(values).tolist() == [True, True, True, False, False]


def test_steps_since_reset_are_counted_from_it():
    reset = torch.tensor([[0, 1], [0, 0], [1, 0], [0, 1], [0, 0]]).bool()
    found = diagnostics.steps_since_reset(reset)
    assert found[:, 1].tolist() == [0, 1, 2, 0, 1]
    assert found[2:, 0].tolist() == [0, 1, 2]
    assert (found[:2, 0] >= 5).all()


def test_value_errors_are_split_at_the_beginning_of_episodes():
    agent = retain.PPO("CartPole-v1", num_envs=2, num_steps=40, batch_size=80)
    rollout = agent.collector.collect(40)
    early = diagnostics.steps_since_reset(rollout.reset) < diagnostics.EARLY
    target = rollout.value + torch.where(early, 3.0, -1.0)
    found = diagnostics.value_errors(rollout, target)
    assert found["value_error_early"] == pytest.approx(3.0, abs=1e-5)
    assert found["value_error_late"] == pytest.approx(1.0, abs=1e-5)
    assert found["target_std"] == pytest.approx(target.std().item())


def test_the_memorys_share_saturation_and_drift():
    whole = torch.nn.ModuleDict({"memory": torch.nn.Linear(2, 1), "head": torch.nn.Linear(1, 1)})
    norms = torch.tensor([3.0, 0.0, 4.0, 0.0])  # of each one's weight and bias
    share = diagnostics.memory_share(whole.parameters(), [whole["memory"]], norms)
    assert share == pytest.approx(3 / 5)
    assert math.isnan(diagnostics.memory_share(whole.parameters(), [], norms))
    carry = ((torch.tensor([[[0.99, 0.1, -0.98, 0.5]]]), torch.full((1, 1, 4), 9.0)),)
    lstm = make_memory("lstm", 3, 4)
    assert diagnostics.memory_metrics([lstm], carry) == {"memory_saturation": 0.5}
    calm = (tree_map(torch.zeros_like, carry[0]),)
    assert diagnostics.memory_metrics([lstm, lstm], carry + calm) == {"memory_saturation": 0.25}
    assert diagnostics.memory_metrics([make_memory("window", 3, 4)], ((),)) == {}
    assert diagnostics.drift(carry, carry) == 0.0
    assert diagnostics.drift(carry, tree_map(torch.zeros_like, carry)) == pytest.approx(1.0)


def test_a_run_logs_its_memory_and_says_nothing_where_all_is_well(tmp_path, capsys):
    agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", seed=1)
    agent.learn(20_000, out=tmp_path / "run", progress=True)
    header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    last = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert 0.05 < float(last["memory_gradient"]) <= 1.0
    assert 0.0 <= float(last["carry_drift"]) < 5.0
    assert 0.0 <= float(last["memory_saturation"]) < 0.5
    assert "warning" not in capsys.readouterr().err


def test_a_detached_memory_and_a_late_reset_are_told_while_training(capsys, monkeypatch):
    original = Torso.forward

    def detached(self, *args):
        out, carry = original(self, *args)
        return out.detach(), carry

    sequences = Rollout.sequences

    def late(self, **named):
        from dataclasses import replace

        cut = sequences(self, **named)
        return replace(cut, reset=cut.reset.roll(1, 0))

    settings = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "sequence_length": 32}
    with monkeypatch.context() as patch:
        patch.setattr(Torso, "forward", detached)
        agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", **settings)
        agent.learn(4000, progress=True)
    out = " ".join(capsys.readouterr().err.split())
    assert "the memory gets 0 of the gradient" in out
    monkeypatch.setattr(Rollout, "sequences", late)
    agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", **settings)
    agent.learn(2000, progress=True)
    out = " ".join(capsys.readouterr().err.split())
    assert "acting and training disagree" in out
    assert "after a reset" in out
