"""A gradient step compiles as one graph, and gives the numbers that it gives eagerly."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import retain
from retain.algos import compiled as compiled_step
from retain.errors import NonFiniteError, UsageError
from retain.nn import opaque

ON = {"num_envs": 4, "num_steps": 32, "threads": 0, "hidden": (16, 16), "seed": 1}
OFF = {"num_envs": 2, "threads": 0, "hidden": (16, 16), "seed": 1, "learning_starts": 64,
       "num_steps": 60, "batch_size": 32, "update_ratio": 0.05}  # fmt: skip
SEQUENCES = {**OFF, "sequence_length": 8}
CASES = {
    "ppo": ("PPO", "CartPole-v1", {**ON, "batch_size": 48, "clip_schedule": "linear",
            "entropy_coef": 0.01, "entropy_schedule": "cosine", "value_clip": 0.2}),
    "ppo lstm": ("PPO", "CartPoleNoVel-v1", {**ON, "memory": "lstm", "sequence_length": 16,
                 "memory_hidden": 16, "batch_size": 64}),
    "ppo gru, native": ("PPO", "CartPoleNoVel-v1", {**ON, "memory": "gru", "sequence_length": 16,
                        "memory_hidden": 16, "batch_size": 64, "kernels": "native"}),
    "ppo, native": ("PPO", "CartPole-v1", {**ON, "batch_size": 64, "kernels": "native"}),
    "ppo mingru, squashed": ("PPO", "Pendulum-v1", {**ON, "memory": "mingru", "squash": True,
                             "memory_hidden": 16, "batch_size": 64, "entropy_coef": 0.01}),
    "vtrace": ("VTrace", "CartPole-v1", {**ON, "sequence_length": 16}),
    "pqn": ("PQN", "CartPole-v1", {**ON, "batch_size": 32}),
    "sac lstm": ("SAC", "PendulumNoVel-v1", {**SEQUENCES, "memory": "lstm", "memory_hidden": 16,
                 "burn_in": 4}),
    "sac, native": ("SAC", "Pendulum-v1", {**OFF, "kernels": "native"}),
    "sac discrete": ("SAC", "CartPole-v1", OFF),
    "td3 window": ("TD3", "PendulumNoVel-v1", {**OFF, "memory": "window"}),
    "tqc": ("TQC", "Pendulum-v1", {**OFF, "quantiles": 5, "drop": 1}),
    "dqn attention": ("DQN", "CartPoleNoVel-v1", {**SEQUENCES, "memory": "attention",
                      "memory_hidden": 16, "prioritized": True}),
}  # fmt: skip


COMPILE = torch.compile


@pytest.fixture
def traced(monkeypatch):
    """The graph is traced and checked to be whole, but runs in torch's own operations: compiling
    code takes 20 s (the slow tests below)."""

    def trace(function, *, fullgraph, dynamic, mode):
        assert (fullgraph, dynamic, mode) == (True, False, "default")
        return COMPILE(function, fullgraph=True, dynamic=False, backend="eager")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", trace)


def updates(name, compiled):
    """An agent after a few updates on the same experience, and its last metrics."""
    algo, env, settings = CASES[name]
    agent = getattr(retain, algo)(env, compile=compiled, **settings)
    if algo in ("PPO", "VTrace", "PQN"):
        rollout = agent.collector.collect(32)
        for progress in (0.0, 0.3, 0.6):
            metrics = agent.update.update(rollout, progress)
    else:
        agent.update.due = -1000.0
        agent.iterate(lambda: 0.0)
        for progress in (0.0, 0.3, 0.6):
            metrics = agent.update.update(progress)
    return agent, metrics


def check(name):
    eager, expected = updates(name, False)
    compiled, found = updates(name, True)
    assert compiled.update._take.noise  # it did run compiled
    assert not opaque._unrolled  # and kept nothing
    for (key, one), two in zip(
        compiled.policy.state_dict().items(), eager.policy.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4, msg=lambda m, k=key: f"{k} {m}")
    for key in expected:
        assert float(found[key]) == pytest.approx(float(expected[key]), rel=1e-3, abs=1e-4,
                                                  nan_ok=True), key  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_graph_gives_the_numbers_of_the_eager_step(name, traced):
    check(name)


def test_native_mlps_are_operations_of_the_graph(monkeypatch):
    called = []

    def trace(function, **settings):
        def backend(graph, inputs):
            called.extend(str(node.target) for node in graph.graph.nodes)
            return graph

        return COMPILE(function, fullgraph=True, dynamic=False, backend=backend)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", trace)
    updates("sac, native", True)
    # the next action's actor, the targets, the critics, the actor, and its action's critics
    assert called.count("retain.mlp.default") == 5


def test_a_minibatch_of_another_size_runs_eagerly(traced):
    agent, _ = updates("ppo", True)  # 128 steps in minibatches of 48
    assert agent.update._take.usual == 48
    assert agent.update.gradient_steps == 3 * agent.config.epochs * 3


def test_a_compiled_step_that_is_not_finite_changes_nothing_and_is_named(traced):
    agent = retain.PPO("CartPole-v1", compile=True, **ON)
    rollout = agent.collector.collect(32)
    agent.update.update(rollout, 0.0)
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    broken = rollout.reward.clone()
    broken[3, 1] = float("nan")
    with pytest.raises(NonFiniteError, match="policy_loss is not finite"):
        agent.update.update(replace(rollout, reward=broken), 0.0)
    assert all(torch.equal(v, before[k]) for k, v in agent.policy.state_dict().items())


def test_what_cannot_be_compiled_is_refused_in_one_line():
    with pytest.raises(
        UsageError, match=r"clip_schedule is the function \S*half, .* constant, linear"
    ):
        retain.PPO("CartPole-v1", compile=True, clip_schedule=half)
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(UsageError, match="this machine has none"),
    ):
        compiled_step.check_compiler(torch.device("cpu"))


def half(progress):
    return 0.5


@pytest.mark.compiled
@pytest.mark.parametrize("name", CASES)
def test_compiled_code_gives_the_numbers_of_the_eager_step(name):
    torch._dynamo.reset()
    check(name)


RUN = """
import sys, retain
agent = retain.PPO("CartPoleNoVel-v1", memory="lstm", compile=True, seed=3, checkpoint_every=2048)
agent.learn(int(sys.argv[2]), out=sys.argv[1], of=8192)
"""


@pytest.mark.compiled
def test_a_resumed_run_compiles_too_and_ends_bit_identical(tmp_path):
    """Against a run in another process, which may have compiled for the first time."""
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "whole"), "8192"], check=True)
    agent = retain.load(tmp_path / "whole")
    assert agent.config.compile
    half = retain.PPO("CartPoleNoVel-v1", memory="lstm", compile=True, seed=3)
    half.learn(4096, of=8192)
    half.save(tmp_path / "half")
    again = retain.load(tmp_path / "half")
    again.learn(4096, of=8192)
    for one, two in zip(agent.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(one, two)
