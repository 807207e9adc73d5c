"""A stochastic policy's noise is an input, and its actions have the agent's distribution."""

import numpy as np
import pytest
import torch
from exported_cells import CHOICE, ROOM, make
from gymnasium import spaces

from retain.errors import UsageError
from retain.export.graph import PolicyGraph
from retain.export.onnx import OnnxPolicy

MANY = 20_000


def played(agent, rows, **obs):
    """Actions of the stochastic graph and of the agent, for many copies of one observation."""
    graph = PolicyGraph(agent, stochastic=True)
    generator = torch.Generator().manual_seed(5)
    draw = {"normal": torch.randn, "uniform": torch.rand}
    inputs = []
    for port in graph.inputs:
        if "noise" in port.facts:
            numbers = draw[port.facts["noise"]](rows, *port.shape, generator=generator)
        elif port.name in obs:
            numbers = torch.from_numpy(np.repeat(obs[port.name][None], rows, 0))
        else:
            numbers = port.example(rows) if port.name != "reset" else torch.ones(rows).bool()
        inputs.append(numbers)
    given = {name.removeprefix("obs."): np.repeat(x[None], rows, 0) for name, x in obs.items()}
    whole = given["obs"] if list(given) == ["obs"] else given
    return graph(*inputs)[0].numpy(), agent.act(whole)[0]


SEEN = np.array([0.3, -0.8, 0.5], np.float32)
PLACE = {
    "obs.image": np.full((36, 36, 3), 90, np.uint8), "obs.room": np.int64(3),
    "obs.place": np.array([0.2, -0.4]), "obs.action_mask": np.array([1, 0, 1, 1], np.int8),
}  # fmt: skip


@pytest.mark.parametrize(
    ("algo", "settings", "obs", "rows"),
    [
        ("PPO", {"actions": CHOICE}, {"obs": SEEN}, MANY),
        ("PPO", {"observations": ROOM, "actions": CHOICE}, PLACE, 4_000),
        ("A2C", {"actions": spaces.MultiDiscrete([2, 3])}, {"obs": SEEN}, MANY),
        ("PPO", {"actions": spaces.MultiBinary(2)}, {"obs": SEEN}, MANY),
        ("DQN", {"actions": CHOICE}, {"obs": SEEN}, MANY),
        ("DQN", {"observations": ROOM, "actions": CHOICE}, PLACE, 4_000),
        ("PQN", {"actions": CHOICE}, {"obs": SEEN}, MANY),
        ("SAC", {"actions": CHOICE}, {"obs": SEEN}, MANY),
    ],
)
def test_choices_have_the_agents_frequencies(algo, settings, obs, rows):
    agent = make(algo, **settings)
    if algo == "DQN":
        agent.exploration = lambda: 0.4
    ours, theirs = (x.reshape(rows, -1) for x in played(agent, rows, **obs))
    assert ours.dtype == theirs.dtype
    for column in range(ours.shape[1]):
        values = np.union1d(ours[:, column], theirs[:, column])
        assert len(values) > 1
        for value in values:
            a, b = (float((x[:, column] == value).mean()) for x in (ours, theirs))
            spread = np.sqrt((a + b) / 2 * (1 - (a + b) / 2) * 2 / rows)
            assert abs(a - b) < 5 * spread + 1e-9
    if "obs.action_mask" in obs:
        assert 3 not in ours  # the second choice, counted from 2, is forbidden


@pytest.mark.parametrize(
    ("algo", "settings"),
    [("PPO", {}), ("PPO", {"squash": True}), ("PPO", {"use_sde": True}), ("DDPG", {}), ("SAC", {})],
)
def test_gaussian_actions_are_the_agents_for_its_own_noise(algo, settings):
    agent = make(algo, **settings)
    graph = PolicyGraph(agent, stochastic=True)
    noise = torch.empty(1, 4, 2).normal_(generator=torch.Generator().manual_seed(9))[0]
    obs = np.random.default_rng(0).uniform(-1, 1, (4, 3)).astype(np.float32)
    with agent.noise_of(9):
        wanted, _ = agent.act(obs)
    known = {"obs": torch.from_numpy(obs), "reset": torch.ones(4).bool(), "noise_0": noise}
    action = graph(*(known.get(port.name, port.example(4)) for port in graph.inputs))[0]
    assert np.abs(action.numpy() - wanted).max() <= 1e-6
    assert np.abs(wanted - agent.act(obs, deterministic=True)[0]).max() > 0.01


def test_noise_at_the_ends_of_its_range_picks_an_allowed_action():
    agent = make("PPO", observations=ROOM, actions=CHOICE)
    graph = PolicyGraph(agent, stochastic=True)
    inputs = [port.example(2) for port in graph.inputs]
    names = [port.name for port in graph.inputs]
    inputs[names.index("obs.action_mask")] = torch.tensor([[0, 1, 0, 1]] * 2, dtype=torch.int8)
    inputs[names.index("noise_0")] = torch.tensor([[0.0] * 4, [1.0] * 4])
    assert set(graph(*inputs)[0].tolist()) <= {3, 5}


def test_the_file_names_its_noise(tmp_path):
    agent = make("DQN", actions=CHOICE)
    made = agent.export(tmp_path / "policy.onnx", stochastic=True)
    policy = OnnxPolicy(made.path)
    facts = policy.metadata
    assert facts["stochastic"] is True
    assert facts["exploration"] == agent.exploration()
    noise = {port["name"]: port for port in facts["inputs"] if "noise" in port}
    assert {name: port["shape"] for name, port in noise.items()} == {
        "noise_0": ["batch"], "noise_1": ["batch", 4],
    }  # fmt: skip
    assert all(port["noise"] == "uniform" for port in noise.values())
    rows = [port.example(3).numpy() for port in made.inputs]
    greedy = policy(*rows[:-2], np.ones(3, np.float32), rows[-1])[0]
    assert greedy.tolist() == agent.act(rows[0], deterministic=True)[0].tolist()


def test_an_agent_that_does_not_explore_has_no_stochastic_policy():
    agent = make("DQN", actions=CHOICE)
    agent.exploration = lambda: 0.0
    with pytest.raises(UsageError, match="stochastic would change nothing"):
        PolicyGraph(agent, stochastic=True)
