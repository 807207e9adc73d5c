"""The benchmark suites of others run as they are: every environment of popgym, and MiniGrid."""

import gymnasium as gym
import popgym  # noqa: F401 (registers its ids)
import pytest

import retain
from retain.errors import Notice

POPGYM = sorted(name for name in gym.registry if name.startswith("popgym-"))


def test_popgym_has_its_42_environments():
    """Six more, the labyrinths, with mazelib."""
    assert len([name for name in POPGYM if "Labyrinth" not in name]) == 42


@pytest.mark.parametrize("name", POPGYM)
def test_ppo_learns_in_every_environment_of_popgym(name):
    agent = retain.PPO(
        f"popgym:{name}", memory="gru", num_envs=2, num_steps=8, batch_size=16, epochs=1
    )
    assert agent.learn(32).steps == 32


@pytest.mark.parametrize(("name", "kwargs"), [("MemoryS7", {}), ("MemoryS7", {"size": 9})])
def test_ppo_learns_in_minigrid_without_the_mission(name, kwargs):
    with pytest.warns(Notice, match="mission left out of the observations"):
        agent = retain.PPO(
            f"minigrid:MiniGrid-{name}-v0", memory="lstm", env_kwargs=kwargs, num_envs=2,
            num_steps=8, batch_size=16, epochs=1,
        )  # fmt: skip
    assert agent.learn(32).steps == 32
    env = agent.backends[0].envs[0].unwrapped
    assert env.width == kwargs.get("size", 7)
