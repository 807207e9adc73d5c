"""Algorithms by name: a stranger's goes through the same door as ours."""

import sys
from pathlib import Path

import pytest
import torch

import retain
from retain.cli import main as cli
from retain.errors import UsageError
from retain.train.algorithms import AGENTS

EXAMPLES = str(Path(__file__).parents[2] / "examples")


@pytest.fixture
def own(monkeypatch):
    """The example's module, forgotten again afterwards."""
    monkeypatch.syspath_prepend(EXAMPLES)
    yield "own_algorithm:PenaltyPPO"
    sys.modules.pop("own_algorithm", None)
    AGENTS.pop("ppo-penalty", None)


def test_every_algorithm_of_ours_is_registered_and_public():
    assert sorted(AGENTS) == sorted(
        ["a2c", "ddpg", "dqn", "ppo", "pqn", "qrdqn", "sac", "td3", "tqc", "vtrace"]
    )
    for name, kind in AGENTS.items():
        assert kind.algo == name
        assert getattr(retain, kind.__name__) is kind
        assert kind.__doc__


def test_the_command_line_trains_and_evaluates_a_strangers_algorithm(own, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = f"--steps 1024 --num-envs 4 --kl-coef 0.5 --no-tensorboard --out {out}".split()
    assert cli.run(["train", own, *arguments]) == 0
    sys.modules.pop("own_algorithm")
    AGENTS.pop("ppo-penalty")
    assert cli.run(["eval", str(out), "--episodes", "2"]) == 2  # code that nobody said to trust
    assert "own_algorithm:PenaltyPPO" in capsys.readouterr().err
    assert cli.run(["eval", str(out), "--episodes", "2", "--trust"]) == 0
    agent = retain.load(out, trust=True)
    assert type(agent).__name__ == "PenaltyPPO"
    assert agent.config.kl_coef == 0.5
    assert torch.isfinite(torch.cat([p.flatten() for p in agent.policy.parameters()])).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pq", "unknown algorithm 'pq'; did you mean 'pqn'"),
        ("own_algorithm:PenaltyPO", "did you mean 'PenaltyPPO'"),
        ("nowhere:Mine", "cannot import 'nowhere' for the algorithm"),
        ("retain.train.agent:Agent", "expected a subclass of retain.OnPolicyAgent"),
        ("retain.train.on_policy:OnPolicyAgent", "is not registered"),
    ],
)
def test_an_unknown_algorithm_is_refused_with_the_nearest(own, name, message, capsys):
    assert cli.run(["train", name]) == 2
    assert message in capsys.readouterr().err


def test_a_name_is_taken_once_and_by_algorithms_only():
    with pytest.raises(UsageError, match="'ppo' already exists"):
        retain.register_algorithm("ppo")(type("Other", (retain.OnPolicyAgent,), {}))
    with pytest.raises(UsageError, match="not an algorithm"):
        retain.register_algorithm("mine")(dict)
    assert "mine" not in AGENTS
