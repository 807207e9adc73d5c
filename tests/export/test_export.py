"""An exported policy acts as its agent does: through resets, with every memory, for every space."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from exported_cells import CELLS, CHOICE, MEMORIES, ROOM, cell, make

import retain
from retain.errors import UsageError
from retain.export.check import largest_difference
from retain.export.graph import PolicyGraph
from retain.export.onnx import OnnxPolicy
from retain.export.torch_export import TorchPolicy

EXACT = 1e-5


def without_paths(file):
    """Whether nothing in a file says where on the machine its code lay."""
    content = file.read_bytes()
    return not any(part in content for part in (b"site-packages", b"actor_critic.py", b"/src/"))


def eager(agent):
    """The graph itself as a function of arrays, without a file."""
    graph = PolicyGraph(agent)

    def run(*inputs):
        with torch.inference_mode():
            return [out.numpy() for out in graph(*map(torch.from_numpy, inputs))]

    return graph, run


@pytest.mark.parametrize("memory", sorted(MEMORIES))
def test_an_onnx_file_acts_as_the_agent_with_every_memory(memory, tmp_path):
    agent = make("PPO", memory=memory, normalise_obs=True)
    made = agent.export(tmp_path / "policy.onnx")
    run = OnnxPolicy(made.path)
    assert largest_difference(agent, run, made.inputs, steps=200) <= EXACT
    if memory == "none":
        return
    place = [port.name for port in made.inputs].index("reset")

    def forgetful(*inputs):
        return run(*inputs[:place], np.ones_like(inputs[place]))

    assert largest_difference(agent, forgetful, made.inputs) > 0.01


@pytest.mark.parametrize("name", CELLS)
def test_the_graph_acts_as_the_agent_in_every_space(name):
    agent = cell(name)
    graph, run = eager(agent)
    assert largest_difference(agent, run, graph.inputs, steps=60) <= EXACT


@pytest.mark.parametrize("name", ["dqn, mask", "a2c, previous action and reward"])
def test_a_torch_file_acts_as_the_agent(name, tmp_path):
    agent = cell(name)
    made = agent.export(tmp_path / "policy.pt2")
    assert largest_difference(agent, TorchPolicy(made.path), made.inputs) <= EXACT


@pytest.mark.parametrize(("ending", "kind"), [(".onnx", OnnxPolicy), (".pt2", TorchPolicy)])
def test_any_number_of_rows(ending, kind, tmp_path):
    agent = make("SAC", memory="gru")
    made = agent.export(tmp_path / f"policy{ending}")
    run = kind(made.path)
    for rows in (1, 2, 7):
        assert largest_difference(agent, run, made.inputs, steps=30, rows=rows) <= EXACT


ALONE = """
import json, sys
import numpy as np
import torch

extra = {"retain.json": ""}
policy = torch.export.load("policy.pt2", extra_files=extra).module()
facts = json.loads(extra["retain.json"])
data = np.load("steps.npz")
carry = [torch.zeros(1, *port["shape"][1:]) for port in facts["inputs"] if "initial" in port]
worst = 0.0
for obs, reset, wanted in zip(data["obs"], data["reset"], data["action"], strict=True):
    action, *carry = policy(torch.from_numpy(obs), *carry, torch.from_numpy(reset))
    worst = max(worst, float(np.abs(action.numpy() - wanted).max()))
assert "retain" not in sys.modules
print(worst)
"""


def test_torch_alone_loads_and_runs_the_file(tmp_path):
    agent = make("PPO", memory="lstm")
    agent.export(tmp_path / "policy.pt2")
    random = np.random.default_rng(0)
    obs = random.uniform(-1, 1, (200, 1, 3)).astype(np.float32)
    reset = random.random((200, 1)) < 0.05
    reset[0] = True
    carry, actions = agent.initial_carry(1), []
    for seen, first in zip(obs, reset, strict=True):
        action, carry = agent.act(seen, carry, first, deterministic=True)
        actions.append(action)
    np.savez(tmp_path / "steps.npz", obs=obs, reset=reset, action=np.array(actions))
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= EXACT
    assert np.ptp(np.array(actions)) > 0.1


def test_the_file_says_what_goes_in_and_out(tmp_path):
    agent = make("A2C", observations=ROOM, actions=CHOICE, previous_action=True)
    made = agent.export(tmp_path / "policy.onnx")
    policy = OnnxPolicy(made.path)
    facts = policy.metadata
    assert facts == json.loads(json.dumps(made.metadata))
    assert facts["retain"] == retain.__version__
    assert facts["memory"] == "lstm"
    ports = {port["name"]: port for port in facts["inputs"] + facts["outputs"]}
    assert list(ports) == [
        "obs.action_mask", "obs.image", "obs.place", "obs.room", "carry_0", "carry_1", "carry_2",
        "reset", "action", "next_carry_0", "next_carry_1", "next_carry_2",
    ]  # fmt: skip
    assert ports["obs.image"]["shape"] == ["batch", 36, 36, 3]
    assert ports["obs.image"]["dtype"] == "uint8"
    assert (ports["obs.room"]["low"], ports["obs.room"]["high"]) == (1, 5)
    assert ports["carry_0"] | {"units": ""} == {
        "name": "carry_0", "shape": ["batch", 1, 8], "dtype": "float32", "initial": 0.0, "units": "",
    }  # fmt: skip
    assert ports["carry_2"]["dtype"] == "int64"
    assert (ports["action"]["low"], ports["action"]["high"]) == (2, 5)
    assert all(port["units"] for port in ports.values())
    assert policy.session.get_inputs()[0].shape == ["batch", 4]
    assert [out.name for out in policy.session.get_outputs()] == list(ports)[-4:]
    assert without_paths(made.path)


def test_the_torch_file_says_the_same(tmp_path):
    agent = make("PPO", memory="none")
    made = agent.export(tmp_path / "policy.pt2")
    assert TorchPolicy(made.path).metadata == json.loads(json.dumps(made.metadata))
    assert without_paths(made.path)


def test_a_critic_stays_at_home(tmp_path):
    """No carry, no parameters: neither is what an action needs."""
    shared, apart = (make("PPO", separate_memory=own) for own in (False, True))
    assert [p.name for p in PolicyGraph(shared).carry] == [p.name for p in PolicyGraph(apart).carry]
    agent = make("TD3", memory="none", hidden=(256, 256))
    program = torch.export.load(agent.export(tmp_path / "policy.pt2").path)
    held = sum(tensor.numel() for tensor in program.state_dict.values())
    actor = sum(parameter.numel() for parameter in agent.policy.actor.parameters())
    assert held == actor


class Leaning(retain.StepMemory):
    """A stranger's memory whose carry does not start at zero."""

    def __init__(self, features_in, *, hidden):
        super().__init__()
        self.features_in, self.features = features_in, hidden
        self.read = torch.nn.Linear(features_in, hidden)

    def initial_carry(self, batch_size):
        return torch.full((batch_size, self.features), 0.5)

    def step(self, x, carry):
        carry = 0.8 * carry + 0.2 * torch.tanh(self.read(x))
        return carry, carry


class Peeking(Leaning):
    """Its code looks at the numbers, so it cannot be recorded."""

    def step(self, x, carry):
        return super().step(x, -carry if float(x.sum()) > 0 else carry)


class Counting(Leaning):
    """Its code turns the number of rows into a constant."""

    def step(self, x, carry):
        return super().step(x + 0.1 * len(x), carry)


def test_a_strangers_memory_is_exported_with_its_initial_carry(tmp_path):
    agent = make("PPO", memory=Leaning)
    made = agent.export(tmp_path / "policy.onnx")
    assert largest_difference(agent, OnnxPolicy(made.path), made.inputs) <= EXACT
    assert made.metadata["inputs"][1]["initial"] == 0.5


@pytest.mark.parametrize(
    ("kind", "reason"), [(Peeking, "Could not|data-dependent"), (Counting, "use x.shape.0.")]
)
def test_a_memory_that_cannot_be_recorded_is_named(kind, reason, tmp_path):
    agent = make("PPO", memory=kind)
    with pytest.raises(UsageError, match=rf"the memory \S+:{kind.__name__} .*{reason}") as caught:
        agent.export(tmp_path / "policy.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "policy.onnx").exists()


class Upside(retain.nn.Encoder):
    """An encoder that looks at the numbers."""

    def __init__(self, space):
        super().__init__()
        self.features = space.shape[0]

    def forward(self, obs):
        return obs if obs.max() > 0 else -obs


def test_an_encoder_that_cannot_be_recorded_is_named(tmp_path):
    agent = make("PPO", encoder=Upside)
    with pytest.raises(UsageError, match=r"the encoder \S+:Upside cannot be exported"):
        agent.export(tmp_path / "policy.pt2")


class Sorted(Leaning):
    """Records, but has an operation that ONNX lacks."""

    def step(self, x, carry):
        return super().step(x + torch.linalg.svdvals(x.unsqueeze(1)), carry)


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    agent = make("PPO", memory=Sorted)
    with pytest.raises(UsageError, match=r"no form in ONNX: .*svd.* .or try torch.") as caught:
        agent.export(tmp_path / "policy.onnx")
    assert "\n" not in str(caught.value)
    made = agent.export(tmp_path / "policy.pt2")
    assert largest_difference(agent, TorchPolicy(made.path), made.inputs) <= EXACT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"path": "policy.bin"},
            "path is 'policy.bin' .expected a name that ends in .onnx or .pt2",
        ),
        ({"path": "policy.onnx", "format": "torch"}, "expected a name that ends in .pt2"),
        ({"path": "policy.onnx", "format": "onxx"}, "format is 'onxx' .*; did you mean 'onnx'"),
        ({"path": "policy.onnx", "fromat": "onnx"}, "no argument 'fromat'; did you mean 'format'"),
    ],
)
def test_a_file_that_cannot_be_is_told_what_to_write(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        make("PPO", memory="none").export(**arguments)
    assert not list(tmp_path.iterdir())


def test_images_are_computed_in_float32(tmp_path):
    images = {"observations": CELLS["ppo, images"][1]["observations"]}
    half, whole = (make("PPO", **images, precision=kind) for kind in ("bfloat16", "float32"))
    graph, run = eager(half)
    assert largest_difference(whole, run, graph.inputs, steps=20) <= EXACT
    assert half.policy.torsos[0].encoder.precision == torch.bfloat16  # the agent's own stays


def test_a_policy_of_a_compiled_update_is_exported(tmp_path):
    agent = make("PPO", memory="gru", compile=True)
    made = agent.export(tmp_path / "policy.onnx")
    assert largest_difference(agent, OnnxPolicy(made.path), made.inputs, steps=50) <= EXACT


def test_the_agent_is_not_changed(tmp_path):
    agent = make("PPO", memory="gru")
    before = {name: x.clone() for name, x in agent.policy.state_dict().items()}
    agent.export(tmp_path / "policy.pt2")
    after = agent.policy.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())
    assert all(parameter.requires_grad for parameter in agent.policy.parameters())
