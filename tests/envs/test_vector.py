"""gymnasium's vector environments as backends: every mode of autoreset, exactly."""

import gymnasium as gym
import numpy as np
import pytest
from counting import Count, parameters
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

import retain
from retain.envs.in_process import InProcess
from retain.envs.vector import Vector, vector_makers
from retain.errors import Notice, UsageError
from retain.train.playback import play_back

LENGTHS = (3, 5, 8)
EVERY = np.ones(3, dtype=bool)


def factories():
    return [lambda n=n: Count(n) for n in LENGTHS]


def played(backend, steps=20):
    """Everything that a batch shows in some steps, resets as a collector does them."""
    seen, number = [backend.reset(EVERY, np.arange(3)).copy()], 10
    for t in range(steps):
        out = backend.step(np.array([t % 2, 1, 0]))
        seen += [np.copy(x) for x in out]
        ended = out.terminated | out.truncated
        if ended.any():
            seen.append(backend.reset(ended, np.arange(number, number + 3)).copy())
            number += 3
    return seen


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_every_mode_is_the_same_timeline(kind, mode, recwarn):
    """Final observations are the true ones, and each episode begins with its own seed."""
    vector = Vector(kind(factories(), autoreset_mode=mode))
    assert vector.plays_back
    wanted = played(InProcess(factories()))
    for ours, theirs in zip(wanted, played(vector), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not [w for w in recwarn if w.category is Notice]
    vector.close()


def test_a_vector_environment_trains_as_its_copies_do():
    settings = {"num_steps": 16, "batch_size": 32, "epochs": 1, "seed": 3}
    one = retain.PPO("CartPole-v1", native=False, num_envs=2, **settings).learn(128)
    vector = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    two = retain.PPO(vector, **settings).learn(128)
    assert two.settings["num_envs"] == 2
    assert (parameters(one) == parameters(two)).all()
    assert one.evaluate(3) == two.evaluate(3)


class Rows(VectorEnv):
    """Three environments that know no seeds and no masks; an episode has 3, 5 or 8 steps."""

    num_envs = 3
    single_observation_space = gym.spaces.Dict(n=gym.spaces.Box(-100, 100, (1,), np.float32),
                                               say=gym.spaces.Text(3))  # fmt: skip
    single_action_space = gym.spaces.Discrete(2)

    def __init__(self, mode):
        self.metadata = {"autoreset_mode": mode}
        self.episode = 0

    def _see(self):
        n = np.stack([self.first + self.count]).T.astype(np.float32)
        return {"n": n, "say": ("a", "b", "c")}

    def reset(self, *, seed=None, options=None):
        assert seed is None
        self.episode += 1
        self.first, self.count = np.full(3, 10 * self.episode), np.zeros(3, int)
        return self._see(), {}

    def step(self, actions):
        self.count += 1
        over = self.count == LENGTHS
        info = {}
        if over.any():
            final = np.full(3, None)
            for row in np.flatnonzero(over):
                final[row] = {"n": np.array([self.first[row] + self.count[row]]), "say": "x"}
            info = {"final_obs": final}
            self.first[over], self.count[over] = -50, 0
        return self._see(), np.ones(3), over, np.zeros(3, bool), info


def test_a_vector_that_takes_no_seeds_says_so_and_shows_its_own_episodes():
    with pytest.warns(Notice) as said:
        vector = Vector(Rows(AutoresetMode.SAME_STEP))
    assert [str(w.message) for w in said] == [
        "Rows: say left out of the observations, since nothing can read it",
        "Rows takes no seed for each episode: episodes cannot be played back, and a resumed run begins new ones",
    ]
    assert not vector.plays_back
    first = vector.reset(EVERY, np.arange(3))["n"][0, 0]
    for t in range(1, 4):
        out = vector.step(np.zeros(3, dtype=np.int64))
        assert out.obs["n"].ravel().tolist() == [first + t] * 3  # the true final one of row 0
    assert out.terminated.tolist() == [True, False, False]
    assert vector.reset(out.terminated, np.arange(3))["n"].ravel().tolist() == [
        -50, first + 3, first + 3]  # fmt: skip
    assert vector.step(np.zeros(3, dtype=np.int64)).obs["n"][0, 0] == -49
    with pytest.raises(UsageError, match="resets all of its environments or none"):
        vector.reset(np.array([True, False, False]), np.arange(3))


@pytest.mark.filterwarnings("ignore::retain.Notice")
def test_training_on_a_vector_that_takes_no_seeds_resumes_with_new_episodes(tmp_path):
    settings = {"num_steps": 8, "batch_size": 24, "epochs": 1}
    agent = retain.PPO(Rows(AutoresetMode.SAME_STEP), **settings)
    agent.learn(24, out=tmp_path / "run")
    again = retain.load(tmp_path / "run", env=Rows(AutoresetMode.SAME_STEP))
    assert again.collector.streams[0].reset_flags.all()
    assert again.progress["not_deterministic"] == [0, 1, 2]
    assert again.learn(24).steps == 48
    with pytest.raises(UsageError, match="takes no seed for each episode: episodes cannot be"):
        play_back(tmp_path / "run", env=Rows(AutoresetMode.SAME_STEP))


def test_a_vector_that_resets_too_late_is_replaced_or_refused():
    with pytest.raises(UsageError, match=r"Rows takes no reset_mask.*autoreset_mode"):
        Vector(Rows(AutoresetMode.NEXT_STEP))
    with pytest.raises(UsageError, match=r"gives no autoreset mode.*None.*expected an Auto"):
        Vector(Rows(None))
    with pytest.raises(UsageError, match=r"shared_memory=False.*DISABLED"):
        Vector(AsyncVectorEnv(factories(), shared_memory=False))
    with pytest.warns(Notice, match=r"CartPoleVectorEnv .* 2 copies of CartPole-v1 are stepped"):
        agent = retain.PPO(gym.make_vec("CartPole-v1", num_envs=2), num_steps=16, batch_size=32)
    assert (agent.env, agent.settings["num_envs"]) == ("CartPole-v1", 2)
    with pytest.raises(UsageError, match="num_envs is 8, but SyncVectorEnv has 3"):
        retain.PPO(SyncVectorEnv(factories()), num_envs=8)
    with pytest.raises(UsageError, match="flicker cannot be used with"):
        retain.PPO(SyncVectorEnv(factories()), flicker=0.5)


def test_the_single_version_of_a_vector_must_show_what_it_shows():
    vector = gym.make_vec("CartPole-v1", num_envs=2)
    assert len(vector_makers(vector)) == 1
    other = Rows(AutoresetMode.SAME_STEP)
    other.spec = vector.spec
    assert vector_makers(other) is None
