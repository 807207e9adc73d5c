"""Agents explain themselves: signatures, help and the stub are made of the configurations."""

import inspect
import pydoc
from dataclasses import fields
from pathlib import Path

import pytest

import retain
from retain.train import algorithms
from retain.train.algorithms import AGENTS
from retain.train.config import RunConfig
from retain.train.signature import stub


@pytest.mark.parametrize("kind", AGENTS.values(), ids=list(AGENTS))
def test_the_signature_is_every_setting_with_its_type_and_default(kind):
    parameters = dict(inspect.signature(kind).parameters)
    assert list(parameters)[:2] == ["env", "preset"]
    made = kind("CartPole-v1" if kind.algo not in ("ddpg", "td3", "tqc") else "Pendulum-v1",
                preset="none")  # fmt: skip
    for field in (*fields(kind.config_kind), *fields(RunConfig)):
        parameter = parameters.pop(field.name)
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.annotation == field.type
        if field.name not in {derived.name for derived in getattr(made, "derived", ())}:
            assert parameter.default == made.settings[field.name], field.name
    assert list(parameters) == ["env", "preset"]


def test_help_tells_what_each_setting_does():
    text = pydoc.plain(pydoc.render_doc(retain.DDPG))
    words = " ".join(text.replace("|", " ").split())
    assert "tau: float = 0.005 Share of the online networks that is mixed into" in words
    assert "num_envs: int = 1 Environments stepped together." in words
    assert "hidden: Sequence[int] = (256, 256) MLP widths" in words  # the subclass's own default
    assert "memory: str type[Memory] = 'none' Memory: none, lstm" in words
    assert "entropy_coef" not in words


def test_the_stub_that_type_checkers_read_is_that_of_the_configurations():
    path = Path(algorithms.__file__).with_suffix(".pyi")
    assert path.read_text() == stub(), "write it again: python -m retain.train.signature"


def test_an_agent_says_what_it_is():
    agent = retain.PPO("CartPole-v1", memory="lstm", memory_hidden=8, num_envs=2, preset="none")
    count = sum(p.numel() for p in agent.policy.parameters())
    assert repr(agent) == (
        f"<PPO on CartPole-v1: memory lstm, {count:,} parameters, 0 steps learned, cpu>"
    )
    agent.learn(256)
    assert "no memory" in repr(retain.DQN("CartPole-v1"))
    assert "256 steps learned" in repr(agent)
