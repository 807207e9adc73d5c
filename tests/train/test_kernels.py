"""Agents on native kernels: they learn as on torch's, and say so where they cannot."""

import pytest
import torch

import retain
from retain.algos.ppo import PPOConfig
from retain.cli import main as cli
from retain.errors import UsageError
from retain.ops.native import library, mlps, recurrent
from retain.train.config import RunConfig
from retain.train.relevance import Situation, irrelevant

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
def test_a_first_update_is_that_of_torchs_kernels(algo, monkeypatch):
    calls = []
    for module in (mlps, recurrent):
        monkeypatch.setattr(module, "library", lambda: calls.append(1) or library())
    env, settings = CASES[algo]
    found, counts = {}, {}
    for kernels in ("torch", "native"):
        calls.clear()
        agent = getattr(retain, algo)(env, kernels=kernels, **settings)
        agent.learn(64)
        assert agent.update.gradient_steps > 0
        found[kernels], counts[kernels] = agent.policy.state_dict(), len(calls)
    for key, value in found["native"].items():
        torch.testing.assert_close(value, found["torch"][key], atol=1e-4, rtol=1e-4)
    assert counts["torch"] == 0 < counts["native"]


@torch.no_grad()
def test_acting_is_the_training_forward():
    torch.manual_seed(0)
    settings = ON | {"memory": "lstm", "previous_action": False}
    policy = retain.PPO("CartPoleNoVel-v1", kernels="native", **settings).policy
    obs, reset, carry = torch.randn(32, 5, 2), torch.rand(32, 5) < 0.1, policy.initial_carry(5)
    whole = policy(obs, carry, reset)
    for t in range(32):
        dist, value, carry = policy(obs[t : t + 1], carry, reset[t : t + 1])
        torch.testing.assert_close(value[0], whole[1][t], atol=1e-6, rtol=0)
        torch.testing.assert_close(dist.logits[0], whole[0].logits[t], atol=1e-6, rtol=0)


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


def test_an_accelerator_has_no_use_for_them():
    now = Situation("ppo", "CartPole-v1", (PPOConfig(kernels="native"), RunConfig(device="cuda")))
    line = "device is 'cuda', and the kernels are for a CPU"
    assert irrelevant(["kernels"], now) == {"kernels": line}
    now = Situation("ppo", "CartPole-v1", (PPOConfig(kernels="native"), RunConfig()))
    assert irrelevant(["kernels"], now) == {}
