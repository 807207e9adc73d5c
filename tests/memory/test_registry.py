"""A stranger's memory goes through the same door as ours, and no code asks what it is called."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import retain
from retain.errors import CheckpointError, UsageError
from retain.memory import MEMORIES, Memory, make_memory, memory_class, memory_name, start_again
from retain.memory.registry import own_settings, read_options


class Leaky(retain.StepMemory):
    """An unbounded memory whose first carry is not zero."""

    def __init__(self, features_in: int, hidden: int, rate: float = 0.25, deep: bool = False):
        super().__init__()
        self.features_in, self.features, self.rate, self.deep = features_in, hidden, rate, deep
        self.read = nn.Linear(features_in, hidden)

    def initial_carry(self, batch_size):
        return (torch.full((batch_size, self.features), 0.5), torch.zeros(batch_size, 1))

    def step(self, x, carry):
        state = carry[0] + self.rate * (torch.tanh(self.read(x)) - carry[0])
        return state, (state, carry[1] + 1)


def stream(T=7, B=3, D=4):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(T, B, D, generator=generator)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[0], reset[3, 1], reset[T - 1, 2] = True, True, True
    return x, reset


def test_a_step_memory_clears_its_carry_at_resets_and_no_gradient_crosses():
    memory, (x, reset) = Leaky(4, 5), stream()
    x.requires_grad_()
    far = tuple(torch.full_like(leaf, torch.nan) for leaf in memory.initial_carry(3))
    out, (_, count) = memory(x, far, reset)
    assert count.flatten().tolist() == [7, 4, 1]  # steps since each environment's last reset
    (slope,) = torch.autograd.grad(out[3, 1].sum(), x)
    assert slope[3, 1].abs().sum() > 0
    assert slope[:3].abs().sum() == 0
    first = 0.5 + 0.25 * (torch.tanh(memory.read(x[3, 1])) - 0.5)
    torch.testing.assert_close(out[3, 1], first)


def test_start_again_takes_the_first_carry_only_where_an_episode_begins():
    carry, first = (torch.tensor([[1.0], [2.0]]),), (torch.tensor([[7.0], [8.0]]),)
    found = start_again(carry, first, torch.tensor([False, True]))
    assert found[0].tolist() == [[1.0], [8.0]]


def test_the_doctor_finds_nothing_in_a_memory_from_outside():
    retain.doctor.check_memory(Leaky(4, 5))


@pytest.mark.parametrize("algo", ["PPO", "DDPG", "SAC", "DQN"])
def test_a_memory_from_outside_trains_exactly_with_every_algorithm(algo):
    env = "CartPoleNoVel-v1" if algo in ("PPO", "DQN") else "PendulumNoVel-v1"
    agent = getattr(retain, algo)(env, memory=Leaky, memory_hidden=8, hidden=(8,), seed=3)
    report = retain.doctor(agent, probes=False)
    names = {result.name for result in report.results}
    assert algo == "PPO" or "pieces of the replay start where acting was" in names
    bad = [r for r in report.results if r.verdict == "fail"]
    assert not bad, bad


def test_names_and_classes_find_each_other():
    assert memory_name("lstm") == "lstm"
    assert memory_name(MEMORIES["gru"]) == "gru"
    name = memory_name(Leaky)
    assert name.endswith("test_registry:Leaky")
    assert memory_class(name) is Leaky
    kind = make_memory(Leaky, 4, 6, options={"rate": 0.5, "deep": True})
    assert (kind.features, kind.rate, kind.deep) == (6, 0.5, True)
    assert make_memory(Leaky, 4, 6, options=("rate=1",)).rate == 1.0
    assert own_settings(Leaky) == {"rate": (float, 0.25), "deep": (bool, False)}


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: memory_class("lsmt"), "did you mean 'lstm'"),
        (lambda: memory_class("nowhere:Leaky"), "cannot import 'nowhere'"),
        (lambda: memory_class("retain.memory:LTSM"), "did you mean 'LSTM'"),
        (lambda: memory_class("retain.errors:UsageError"), "expected a subclass"),
        (lambda: memory_name(Leaky(4, 5)), "memory=Leaky"),
        (lambda: memory_name(3), "expected a name"),
        (lambda: retain.register_memory("lstm")(Leaky), "already exists"),
        (lambda: retain.register_memory("x")(dict), "expected a subclass"),
        (lambda: read_options(Leaky, ["rat=1"]), "did you mean 'rate'"),
        (lambda: read_options(Leaky, ["rate=fast"]), "expected float"),
        (lambda: read_options(Leaky, ["rate"]), "name=value"),
        (lambda: read_options(MEMORIES["lstm"], ["a=1"]), "no setting 'a'"),
        (lambda: make_memory(Leaky, 4, options={"deep": 3}), "expected bool"),
        (lambda: retain.PPO("CartPole-v1", memory="lsmt"), "did you mean 'lstm'"),
        (lambda: retain.PPO("CartPole-v1", memory=Leaky, memory_options={"r": 1}), "no setting"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(action, words):
    with pytest.raises(UsageError) as error:
        action()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


MODULE = """
import torch, retain
from torch import nn

class Slow(retain.StepMemory):
    def __init__(self, features_in: int, *, hidden: int, rate: float = 0.1):
        super().__init__()
        self.features_in, self.features, self.rate = features_in, hidden, rate
        self.read = nn.Linear(features_in, hidden)
    def initial_carry(self, batch_size):
        return torch.zeros(batch_size, self.features)
    def step(self, x, carry):
        carry = carry + self.rate * (torch.tanh(self.read(x)) - carry)
        return carry, carry
"""


def test_the_command_line_takes_a_memory_of_a_module(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    train = [
        "train", "ppo", "--env", "CartPoleNoVel-v1", "--memory", "mine:Slow", "--memory-options",
        "rate=0.5", "--steps", "2048", "--out", "run",
    ]  # fmt: skip
    code = "import sys; sys.path.insert(0, '.'); from retain.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *train], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(CheckpointError, match=r"mine.*trust"):
            retain.load(tmp_path / "run")
        agent = retain.load(tmp_path / "run", trust=True)
    finally:
        sys.path.remove(str(tmp_path))
    assert agent.policy.torsos[0].memory.rate == 0.5
    assert agent.config.memory == "mine:Slow"
    action, _ = agent.act(np.zeros(2, np.float32))
    assert action in (0, 1)


def test_nothing_asks_what_a_memory_is_called():
    source = Path(retain.__file__).parent
    allowed = {"memory", "presets", "demo.py", "train.py"}  # families, settings, defaults
    for path in source.rglob("*.py"):
        if allowed & set(path.relative_to(source).parts):
            continue
        text = path.read_text()
        for name in MEMORIES:
            assert f'memory == "{name}"' not in text, path
            assert f'memory != "{name}"' not in text, path
        assert "memory in (" not in text, path


def test_every_memory_says_how_far_it_reaches():
    fields = {name: make_memory(name, 4, 8).receptive_field for name in ("none", "lstm", "window")}
    assert fields == {"none": 1, "lstm": None, "window": 8}
    assert Memory.receptive_field is None  # the safe default: the carry is stored
