"""A gradient step reads nothing back from its device, and mixes no devices.

torch's `meta` device stands for an accelerator here: its tensors have no numbers, so whatever waits
for a number raises, and so does an operation on it and the CPU. LSTM and GRU are not among the
memories: their unroll reads from the device where episodes end.
"""

import contextlib
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from torch import Tensor

import retain
from retain.algos.on_policy import OnPolicyUpdate
from retain.nn.noise import Drawn, Recorder
from retain.types import tree_map

ALGORITHMS = [
    ("PPO", "CartPole-v1", {"entropy_coef": 0.01, "value_clip": 0.2, "target_kl": 0.01}),
    ("PPO", "Pendulum-v1", {"squash": True, "entropy_coef": 0.01}),
    ("A2C", "Pendulum-v1", {}),
    ("VTrace", "CartPole-v1", {}),
    ("PQN", "CartPole-v1", {}),
    ("DQN", "CartPole-v1", {"prioritized": True}),
    ("QRDQN", "CartPole-v1", {"double": True}),
    ("DDPG", "Pendulum-v1", {"max_grad_norm": 1.0}),
    ("TD3", "Pendulum-v1", {"memory_owner": "separate"}),
    ("SAC", "Pendulum-v1", {}),
    ("SAC", "CartPole-v1", {"alpha": 0.1}),
    ("TQC", "Pendulum-v1", {}),
]
MEMORIES = ["mingru", "lru", "attention", "delta", "window"]
CASES = [(case, "none") for case in ALGORITHMS] + [
    (case, MEMORIES[number % len(MEMORIES)]) for number, case in enumerate(ALGORITHMS)
]


def on_meta(data):
    """The same data without its numbers."""
    if is_dataclass(data):
        named = {f.name: on_meta(getattr(data, f.name)) for f in fields(data) if f.init}
        return replace(data, **named)
    if isinstance(data, list):
        return [on_meta(one) for one in data]
    if isinstance(data, Tensor | tuple | dict):
        return tree_map(lambda x: x.to("meta"), data)
    return data


class AnyDevice(torch.Generator):
    def __new__(cls, device=None):
        return super().__new__(cls)


@pytest.fixture
def meta(monkeypatch):
    """What torch does not know of this device: generators and autocast."""
    monkeypatch.setattr(torch, "Generator", AnyDevice)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device=None: False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    yield
    # What the compiler knows of torch's functions must not be learned from these.
    torch._dynamo.trace_rules.clear_lru_cache()


def batch_and_settings(agent):
    update = agent.update
    if isinstance(update, OnPolicyUpdate):
        rollout = agent.collector.collect(agent.config.num_steps)
        obs = agent.policy.prepare(rollout.obs)
        sequences = update.cut(rollout, obs, *update.targets(rollout))
        return sequences, (0.5, 1e-3)
    update.due = -1e6
    agent.iterate(lambda: 0.0)
    return update.draw(0.5), (
        dict.fromkeys(update.optimizers, 1e-3),
        agent.policy.actor is not None,
    )


@pytest.mark.parametrize(("case", "memory"), CASES, ids=lambda x: x if isinstance(x, str) else x[0])
def test_a_gradient_step_reads_nothing_from_its_device(case, memory, meta):
    algo, env, settings = case
    if memory == "none":
        settings = {k: v for k, v in settings.items() if k != "memory_owner"}
    sizes = {"num_steps": 16, "num_envs": 2}
    if algo in ("DQN", "QRDQN", "DDPG", "TD3", "SAC", "TQC"):
        sizes = {"num_envs": 2, "num_steps": 60, "buffer_size": 400, "learning_starts": 40,
                 "batch_size": 32}  # fmt: skip
    given = {
        "hidden": (8,),
        "threads": 0,
        "memory_hidden": 8,
        "summary": "stack",
        **sizes,
        **settings,
    }
    kind = getattr(retain, algo)
    agent = kind(env, preset="none", **kind.useful(given))
    batch, inputs = batch_and_settings(agent)
    agent.update.source = recorder = Recorder(agent.update.generator)
    agent.update.gradient_step(batch, *inputs)  # which noise it draws

    policy = agent.policy.to("meta")
    named = {"num_envs": 2} if isinstance(agent.update, OnPolicyUpdate) else {}
    update = type(agent.update)(agent.config, policy, seed=0, **named)
    update.source = Drawn([torch.empty(shape, device="meta") for shape in recorder.shapes])
    update.gradient_step(on_meta(batch), *inputs)
    with pytest.raises(RuntimeError, match="meta"):
        float(next(policy.parameters()).detach().sum())  # what waiting would have raised
