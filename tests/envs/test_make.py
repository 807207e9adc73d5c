"""Making environments: ids, callables, spaces, and one clear line for what is wrong."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import retain  # noqa: F401 (registers the ids)
from retain.envs.make import make, make_single
from retain.envs.register import register_envs
from retain.envs.wrappers import KeepEntries
from retain.errors import UsageError

EVERYWHERE = np.ones(2, dtype=np.bool_)


class Nested(gym.Env):
    """Observes its step count in every kind of space."""

    observation_space = gym.spaces.Dict(
        {
            "pair": gym.spaces.Tuple((gym.spaces.Discrete(9, start=1), gym.spaces.Box(0, 9, (2,)))),
            "bits": gym.spaces.MultiBinary(3),
        }
    )
    action_space = gym.spaces.Discrete(3, start=5)

    def _observe(self):
        count = self.count
        return {
            "pair": (count + 1, np.full(2, count, np.float32)),
            "bits": np.array([count, 0, 1], np.int8),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action):
        assert isinstance(action, int)
        assert action in self.action_space
        self.count += 1
        return self._observe(), 1.0, False, False, {}


def test_nested_spaces_become_one_flat_dict():
    backend = make(Nested, 2)
    assert list(backend.observation_space.spaces) == ["bits", "pair/0", "pair/1"]
    obs = backend.reset(EVERYWHERE, np.zeros(2, dtype=np.int64))
    assert obs["pair/0"].tolist() == [1, 1]
    obs = backend.step(np.array([5, 7])).obs
    assert obs["pair/0"].tolist() == [2, 2]
    assert obs["pair/1"].tolist() == [[1, 1], [1, 1]]
    assert obs["bits"].dtype == np.int8


def test_ids_are_registered_and_hide_the_velocity():
    register_envs()  # a second time changes nothing
    for name, width in (("CartPoleNoVel-v1", 2), ("PendulumNoVel-v1", 2),
                        ("MountainCarContinuousNoVel-v0", 1), ("retain/CartPole-v1", 4)):  # fmt: skip
        env = gym.make(name)
        obs, _ = env.reset(seed=1)
        assert obs.shape == (width,)
        assert env.observation_space.contains(obs)
        env.close()
    full, _ = gym.make("MountainCarContinuous-v0").reset(seed=4)
    hidden, _ = gym.make("MountainCarContinuousNoVel-v0").reset(seed=4)
    assert hidden[0] == full[0]


def test_native_single_passes_gymnasiums_own_checker():
    from gymnasium.utils.env_checker import check_env

    check_env(gym.make("retain/PendulumNoVel-v1").unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("CartPole-v11", "unknown environment 'CartPole-v11'; did you mean 'CartPole-v1'"),
        ("CartPoleNoVl-v1", "did you mean 'CartPoleNoVel-v1'"),
        ("no_such_module:Env-v0", "cannot import 'no_such_module'"),
        (lambda: 3, "returned int .expected a gymnasium.Env"),
    ],
)
def test_a_wrong_environment_is_one_clear_line(env, message):
    with pytest.raises(UsageError, match=message) as caught:
        make(env, 2)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_one_clear_line():
    with pytest.raises(UsageError, match="num_envs is 0"):
        make("CartPole-v1", 0)
    with pytest.raises(UsageError, match="entry 4 is outside"):
        KeepEntries(gym.make("CartPole-v1"), (0, 4))
    gym.register("NoFrills-v0", entry_point=Nested)
    with pytest.raises(UsageError, match="cannot make 'NoFrills-v0'"):
        make_single("NoFrills-v0", render_mode="red")


class Wordy(gym.Env):
    observation_space = gym.spaces.Text(10)
    action_space = gym.spaces.Discrete(2)


def test_an_unsupported_space_is_named():
    with pytest.raises(UsageError, match=r"unsupported observation space Text"):
        make(Wordy, 1)


def test_environments_never_import_torch():
    code = "import sys, retain, retain.envs.make, retain.envs.single; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
