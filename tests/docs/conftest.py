"""A reader's working folder, in which the documentation's code runs."""

import shutil
import sys
from pathlib import Path

import gymnasium as gym
import my_module
import pytest
import torch

import retain
from retain.envs.native import NATIVE
from retain.memory import MEMORIES
from retain.nn.encoders.base import ENCODERS
from retain.train.algorithms import AGENTS
from retain.train.callbacks.registry import REGISTERED


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run that stopped before its end, and an agent with a memory in it."""
    folder = tmp_path_factory.mktemp("trained") / "pole"
    agent = retain.PPO(
        "CartPoleNoVel-v1", memory="lstm", num_envs=2, num_steps=32, batch_size=64, eval_every=64,
        eval_episodes=1,
    )  # fmt: skip
    agent.learn(128, out=folder, callbacks=[Half()])
    return folder


class Half(retain.Callback):
    """Stops after the first row."""

    def on_row(self, event):
        return True


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The reader's folder; what is registered there is gone afterwards."""
    torch.manual_seed(0)
    gym.register("MyEnv-v0", entry_point=my_module.MyEnv, max_episode_steps=100)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    yield tmp_path
    for registry in (AGENTS, MEMORIES, ENCODERS, REGISTERED):
        for name in [name for name, kind in registry.items() if strange(kind)]:
            registry.pop(name)
    for name in ("MyEnv-v0", "MyBatch-v0", "Corridor-v0"):
        gym.registry.pop(name, None)
        NATIVE.pop(name, None)
    for name in ("own_algorithm", "own_memory", "own_encoder"):
        sys.modules.pop(name, None)


def strange(kind):
    """Whether a class is a reader's and not the library's."""
    return not kind.__module__.startswith("retain.")


@pytest.fixture
def runs(reader, trained):
    """Folders that the documentation names as if the reader had trained them."""
    for name in ("pole", "...", "a", "b", "mine", "compare/lstm/seed1", "sweep"):
        shutil.copytree(trained, reader / "runs" / name)
    return reader
