"""Agents on native kernels: they learn as on torch's, and say so where they cannot."""

import pytest
import torch

import retain
from retain.cli import main as cli
from retain.errors import UsageError
from retain.ops.native import library

SMALL = {"num_envs": 2, "seed": 3, "hidden": (24, 24)}
ON = SMALL | {"num_steps": 32, "batch_size": 64, "epochs": 1}
OFF = SMALL | {"learning_starts": 20, "num_steps": 40, "batch_size": 32, "buffer_size": 2000}
CASES = {
    "PPO": ("CartPoleNoVel-v1", ON | {"memory": "lstm", "memory_hidden": 20}),
    "SAC": ("PendulumNoVel-v1", OFF | {"memory": "gru", "memory_hidden": 20}),
    "TD3": ("PendulumNoVel-v1", OFF),
    "DQN": ("CartPoleNoVel-v1", OFF | {"hidden": (24,)}),
}


@pytest.mark.parametrize("algo", CASES)
def test_a_first_update_is_that_of_torchs_kernels(algo):
    env, settings = CASES[algo]
    found = {}
    for kernels in ("torch", "native"):
        agent = getattr(retain, algo)(env, kernels=kernels, **settings)
        agent.learn(64)
        found[kernels] = agent.policy.state_dict()
        assert agent.update.gradient_steps > 0
    for key, value in found["native"].items():
        torch.testing.assert_close(value, found["torch"][key], atol=1e-4, rtol=1e-4)
    assert any(
        not torch.equal(value, found["torch"][key]) for key, value in found["native"].items()
    )


def test_acting_is_the_training_forward():
    agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", kernels="native", **ON)
    rollout = agent.collector.collect(32)
    policy = agent.policy
    with torch.no_grad():
        whole = policy(rollout.obs, rollout.carry, rollout.reset)[1]
        carry = rollout.carry
        for t in range(32):
            one, carry = policy(rollout.obs[t : t + 1], carry, rollout.reset[t : t + 1])[1:]
            torch.testing.assert_close(one[0], whole[t], atol=1e-6, rtol=0)


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    library.cache_clear()
    yield
    library.cache_clear()


def test_a_machine_without_a_compiler_says_so_in_a_line(no_compiler, capsys, tmp_path):
    line = "kernels is 'native', but they need a C++ compiler, and CXX names 'no-such-compiler'"
    with pytest.raises(UsageError, match=line.replace("+", r"\+")):
        retain.PPO("CartPole-v1", kernels="native")
    retain.PPO("CartPole-v1")
    arguments = ["train", "ppo", "--kernels", "native", "--out", str(tmp_path / "run")]
    assert cli.run(arguments) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_kernels_stay_for_an_agents_life(tmp_path):
    agent = retain.PPO("CartPole-v1", kernels="native", **ON)
    agent.learn(64)
    agent.save(tmp_path / "agent")
    assert retain.load(tmp_path / "agent").config.kernels == "native"
    with pytest.raises(UsageError, match="kernels"):
        retain.load(tmp_path / "agent", kernels="torch")
