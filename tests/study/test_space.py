"""What a search varies: the declarations decide, a stranger's included."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import torch
from torch import nn

import retain
from retain.algos.ppo import PPOConfig
from retain.errors import UsageError
from retain.memory.registry import MEMORIES
from retain.ranges import Log, NearOne, OneOf, Uniform
from retain.settings import search_range, setting
from retain.study.space import Base, draw, read_search, settings_from, space_of, values_in
from retain.train.algorithms import AGENTS


@dataclass(frozen=True, kw_only=True)
class WarmConfig(PPOConfig):
    """A stranger's algorithm with a setting of its own, and another default for one of ours."""

    warmth: float = setting(0.5, search=Uniform(0.1, 0.9))
    """How warm it is."""
    gamma: float = 0.9
    """Discount factor per step."""


class Warm(retain.PPO):
    config_kind = WarmConfig


class Fading(retain.StepMemory):
    """A stranger's memory with a range on one of its own settings."""

    def __init__(
        self, features_in: int, *, hidden: int, rate: Annotated[float, Log(0.01, 1.0)] = 0.1,
        other: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features_in, self.features, self.rate = features_in, hidden, rate
        self.read = nn.Linear(features_in, hidden)

    def initial_carry(self, batch_size):
        return torch.zeros(batch_size, self.features)

    def step(self, x, carry):
        carry = carry + self.rate * (torch.tanh(self.read(x)) - carry)
        return carry, carry


@pytest.fixture(autouse=True)
def _registered():
    """The strangers are there for these tests only."""
    retain.register_algorithm("space_warm")(Warm)
    retain.register_memory("space_fading")(Fading)
    yield
    AGENTS.pop("space_warm")
    MEMORIES.pop("space_fading")


def names(algo, memory, settings=None, given=None):
    base = Base(algo, "CartPole-v1", {"memory": memory, **(settings or {})})
    return [one.name for one in space_of(base, memory, given or {})]


def test_a_strangers_setting_and_memory_are_searched_where_they_declare_it():
    found = names("space_warm", "space_fading")
    assert {"warmth", "learning_rate", "gamma", "memory_hidden", "space_fading.rate"} <= {*found}
    assert "space_fading.other" not in found
    assert search_range(WarmConfig, "gamma") == NearOne(0.9, 0.999)  # only the default changed


def test_settings_that_are_set_or_would_do_nothing_are_not_searched():
    assert "memory_hidden" not in names("ppo", "none")
    assert "memory_hidden" in names("ppo", "lstm")
    assert "window" not in names("ppo", "lstm")
    assert "window" in names("ppo", "window")
    assert "gamma" not in names("ppo", "lstm", {"gamma": 0.9})
    assert "lstm.chrono" not in names("ppo", "lstm", {"memory_options": ("chrono=30",)})
    assert "alpha_init" in names("sac", "none")
    assert "alpha_init" not in names("sac", "none", {"alpha": 0.1})


@pytest.mark.parametrize("algo", AGENTS)
@pytest.mark.parametrize(
    "memory", ["none", "lstm", "lru", "attention", "delta", "mingru", "window"]
)
def test_every_algorithm_and_memory_can_be_built_from_any_draw(algo, memory):
    if algo.startswith("space_"):
        return
    env = "Pendulum-v1" if algo in ("ddpg", "td3", "tqc") else "CartPole-v1"
    base = Base(algo, env, {"memory": memory})
    space = space_of(base, memory, {})
    assert len(space) >= 3
    assert memory in MEMORIES
    for seed in range(5):
        values = draw(space, seed)
        assert {one.name for one in space} == {*values}
        assert all(one.range.holds(values[one.name]) for one in space)
        parts = base.situation(memory, **settings_from(space, values, {})).parts
        assert parts[0].memory == memory
        assert parts[0].learning_rate == values["learning_rate"]


def test_values_become_settings_and_settings_values():
    base = Base("ppo", "CartPole-v1", {"memory": "lru", "memory_options": ("states=8",)})
    space = space_of(base, "lru", {})
    values = draw(space, 1)
    settings = settings_from(space, values, base.settings)
    assert settings["memory_options"][0] == "states=8"
    assert settings["gamma"] == values["gamma"]
    assert isinstance(settings["epochs"], int)
    assert values_in(space, settings, "lru") == values
    assert "gamma" not in values_in(space, settings | {"gamma": 0.5}, "lru")  # not in its range
    chrono = space_of(Base("ppo", "CartPole-v1", {"memory": "lstm"}), "lstm", {})
    assert settings_from(chrono, {"lstm.chrono": 20}, {}) == {"memory_options": ("chrono=20",)}
    assert settings_from(chrono, {"lstm.chrono": None}, {}) == {}  # its default


def test_a_search_overrides_a_range_and_adds_settings():
    base = Base("ppo", "CartPole-v1", {"memory": "lstm"})
    given = read_search(
        base,
        ["lstm"],
        ["learning-rate=log:1e-3:1e-2", "num_steps=one_of:64:128", "chrono=log:5:50"],
    )
    space = {one.name: one.range for one in space_of(base, "lstm", given)}
    assert space["learning_rate"] == Log(1e-3, 1e-2)
    assert space["num_steps"] == OneOf(64, 128)
    assert space["lstm.chrono"] == Log(5, 50)


@pytest.mark.parametrize(("pair", "message"), [
    ("learning_rate", "expected NAME=RANGE"),
    ("lerning_rate=log:1:2", "unknown setting 'lerning_rate'; did you mean 'learning_rate'"),
    ("chron=log:5:50", "unknown setting 'chron'; did you mean 'chrono'"),
    ("ent_coef=log:1e-3:1e-1", "entropy_coef"),
    ("learning_rate=lg:1:2", "search learning_rate: unknown range 'lg'"),
    ("learning_rate=log:2:1", "search learning_rate: log:2:1 is empty"),
    ("num_steps=one_of:64:many", "search num_steps: 'many' is no value .expected int"),
    ("seed=one_of:1:2", "search cannot vary seed: every trial runs the same seeds"),
    ("memory=one_of:lstm:gru", "search cannot vary memory: give the memories"),
    ("hide_typo=one_of:1:2", "unknown"),
    ("num_envs=one_of:4:8", "num_envs is set, and so cannot be searched"),
])  # fmt: skip
def test_a_bad_search_is_refused_in_one_line(pair, message):
    base = Base("ppo", "CartPole-v1", {"memory": "lstm", "num_envs": 4})
    with pytest.raises(UsageError, match=message):
        read_search(base, ["lstm"], [pair])


@pytest.mark.parametrize(("given", "message"), [
    ({"gamma": Uniform(0.9, 1.5)}, "gamma is 1.5 .expected 0 to 1"),
    ({"epochs": Log(1.5, 8)}, "epochs: log:1.5:8 has 1.5 .expected int"),
    ({"epochs": OneOf(2, 2.5)}, "epochs: one_of:2:2.5 has 2.5 .expected int"),
    ({"activation": Uniform(0, 1)}, "activation: uniform:0:1 has 0"),
])  # fmt: skip
def test_a_range_that_the_setting_does_not_allow_is_refused(given, message):
    base = Base("ppo", "CartPole-v1", {"memory": "lstm"})
    with pytest.raises(UsageError, match=message):
        space_of(base, "lstm", given)
