"""Workers in Ray actors: the same numbers as in this process, and nothing lost when one dies."""

import json
import os
import signal
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from odd import Hangs, Moody, Odd, Raises, begin_ahead, equal, play
from test_workers import SMALL, same

import retain
from retain.envs.groups import make_groups
from retain.envs.options import EnvOptions
from retain.errors import EnvironmentFailure, UsageError

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def address(cluster):
    cluster.add_node(num_cpus=4)
    return cluster.address


@pytest.fixture(autouse=True)
def told(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)


@pytest.fixture
def options():
    return lambda **more: EnvOptions(
        **{"workers": 2, "worker_engine": "ray", "worker_cpus": 0.5} | more
    )


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    """Ends the actors of every pool after its test."""
    from retain.envs.workers.actors import ActorPool

    pools, make = [], ActorPool.__init__

    def noted(self, *arguments):
        pools.append(self)
        make(self, *arguments)

    monkeypatch.setattr(ActorPool, "__init__", noted)
    yield
    for pool in pools:
        if hasattr(pool, "close"):
            pool.close()


class Picture(gym.Env):
    """Observes an image that is too large to come with the answer: Ray keeps it on the node."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = gym.spaces.Discrete(3, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.integers(0, 255, (84, 84, 4), np.uint8), {}

    def step(self, action):
        self.t += 1
        image = self.np_random.integers(0, 255, (84, 84, 4), np.uint8)
        return image, float(action), self.t == 7, False, {"won": self.t}


@pytest.mark.parametrize("groups", [1, 2])
def test_actors_answer_what_this_process_would(options, groups):
    here = make_groups(Odd, 6, EnvOptions(env_groups=groups))
    expected = play(here, 30)
    for count in (1, 3):
        there = make_groups(Odd, 6, options(env_groups=groups, workers=count))
        equal(play(there, 30), expected)
        assert there[0].observation_space == here[0].observation_space


def test_a_killed_actor_is_replaced_and_nothing_is_lost(options):
    import ray

    expected = play(make_groups(Odd, 4, EnvOptions(env_groups=2)), 40)
    there = make_groups(Odd, 4, options(env_groups=2))
    dice = np.random.default_rng(1)
    killed = []

    def disturb(t):
        if dice.random() < 0.1:
            time.sleep(dice.random() * 0.01)
            ray.kill(there[0].pool.handles[dice.integers(2)].actor)
            killed.append(t)

    equal(play(there, 40, disturb), expected)
    assert len(killed) > 2
    kinds = [fault.kind for fault in there[0].faults]
    assert kinds
    assert set(kinds) == {"worker died"}


def test_a_node_that_is_killed_loses_no_episode(cluster, options):
    """Its answers of images are lost with it, too."""
    expected = []
    for env in (Odd, Picture):
        expected.append(numbers(make_groups(env, 8, EnvOptions()), 20))
    for env, before in zip((Odd, Picture), expected, strict=True):
        doomed = cluster.add_node(num_cpus=3)
        there = make_groups(env, 8, options(worker_cpus=2.5))
        places = [where(handle) for handle in there[0].pool.handles]
        [victim] = [pid for node, pid in places if node == doomed.node_id]

        others = []

        def disturb(t, doomed=doomed, victim=victim, others=others):
            if t == 9:  # all at once, as when a machine goes
                cluster.remove_node(doomed, allow_graceful=False)
                os.kill(victim, signal.SIGKILL)
                others.append(cluster.add_node(num_cpus=3))

        equal(numbers(there, 20, disturb), before)
        assert "worker died" in [fault.kind for fault in there[0].faults]
        there[0].close()
        cluster.remove_node(others[0])


def where(handle):
    """The node of an actor, and its process."""
    import ray

    facts = ray._private.state.actors(handle.actor._actor_id.hex())
    return facts["Address"]["NodeID"], facts["Pid"]


def numbers(groups, steps, disturb=lambda t: None):
    [backend] = groups
    if isinstance(backend.observation_space, gym.spaces.Dict):
        return play(groups, steps, disturb)
    told = [backend.reset(np.ones(backend.num_envs, bool), np.arange(backend.num_envs)).copy()]
    for t in range(steps):
        backend.send(1 + (np.arange(backend.num_envs) + t) % 3)
        disturb(t)
        obs, reward, terminated, _ = backend.receive()
        told += [obs.copy(), reward.copy(), terminated.copy()]
        if terminated.any():
            assert backend.info(0) == {"won": 7}
            told.append(backend.reset(terminated, np.arange(backend.num_envs) + t).copy())
    return told


@pytest.mark.parametrize(("algo", "env", "memory", "groups"), [
    ("PPO", "CartPoleNoVel-v1", "lstm", 2), ("SAC", "PendulumNoVel-v1", "lstm", 1),
])  # fmt: skip
def test_training_is_the_same_as_in_process_while_actors_are_killed(
    tmp_path, algo, env, memory, groups
):
    import ray

    settings = SMALL if algo == "PPO" else {
        "num_envs": 4, "seed": 3, "hidden": (8,), "memory_hidden": 8, "learning_starts": 40,
        "batch_size": 32, "sequence_length": 4, "num_steps": 25, "update_ratio": 0.2,
        "buffer_size": 1000}  # fmt: skip
    settings = settings | {"memory": memory, "env_groups": groups}
    calm = getattr(retain, algo)(env, **settings).learn(640)
    rough = getattr(retain, algo)(env, **settings, workers=2, worker_engine="ray", worker_cpus=0.5)
    dice = np.random.default_rng(0)
    send, times = rough.backends[-1].send, []

    def disturbed(action):
        send(action)
        if dice.random() < 0.04:
            handles = rough.backends[0].pool.handles
            ray.kill(handles[dice.integers(2)].actor)
            times.append(1)

    rough.backends[-1].send = disturbed
    rough.learn(640, out=tmp_path / "run")
    assert times
    assert same(calm, rough)
    assert calm.collector.statistics.recent == rough.collector.statistics.recent
    assert '"kind": "worker died"' in (tmp_path / "run" / "incidents.jsonl").read_text()
    rough.backends[0].close()


def test_a_run_goes_on_with_another_engine(tmp_path):
    settings = SMALL | {"memory": "lstm", "checkpoint_every": 64, "lr_schedule": "constant"}
    whole = retain.PPO("CartPoleNoVel-v1", **settings).learn(256)
    retain.PPO("CartPoleNoVel-v1", **settings).learn(128, out=tmp_path / "run")
    rest = retain.resume(tmp_path / "run", steps=256, workers=2, worker_engine="ray", worker_cpus=0.5)  # fmt: skip
    assert same(whole, rest)
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["run"]["worker_engine"] == "ray"
    )


def test_a_hung_actor_is_replaced(tmp_path, options):
    expected = play(make_groups(Odd, 2, EnvOptions()), 12)
    there = make_groups(lambda: Hangs(tmp_path / "mark"), 2, options(worker_timeout=1.0))
    equal(play(there, 12), expected)
    assert [fault.kind for fault in there[0].faults] == ["worker hung"]


class Kills(Odd):
    def step(self, action):
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_environment_that_always_kills_its_actor_stops_the_run(options):
    [backend] = make_groups(Kills, 2, options(workers=1))
    backend.reset(np.ones(2, dtype=bool), np.arange(2))
    with pytest.raises(EnvironmentFailure, match=r"worker 0 ended, .*, 3 times in a row"):
        backend.step(np.ones(2, dtype=np.int64))


def test_an_episode_that_cannot_be_replayed_is_cut_where_it_was(options):
    import ray

    [backend] = make_groups(Moody, 4, options())
    backend.reset(np.ones(4, dtype=bool), np.full(4, 6))
    before = {k: x.copy() for k, x in backend.step(np.ones(4, dtype=np.int64)).obs.items()}
    ray.kill(backend.pool.handles[1].actor)
    obs, reward, terminated, truncated = backend.step(np.ones(4, dtype=np.int64))
    assert truncated.tolist() == [False, False, True, True]
    assert not terminated.any()
    assert reward.tolist() == [2, 2, 0, 0]
    np.testing.assert_array_equal(obs["pair"][2:], before["pair"][2:])
    assert [f.kind for f in backend.faults] == ["worker died"] + ["not deterministic"] * 2
    assert [f.index for f in backend.faults] == [-1, 2, 3]


@pytest.mark.parametrize("kill", [False, True])
def test_an_environment_that_raises_ends_its_episode_where_it_was(options, kill):
    import ray

    [backend] = make_groups(Raises, 2, options())
    backend.reset(np.ones(2, dtype=bool), np.array([4, 5]))
    for _ in range(2):
        last = {k: x.copy() for k, x in backend.step(np.array([1, 2])).obs.items()}
    if kill:
        ray.kill(backend.pool.handles[1].actor)
    obs, reward, _, truncated = backend.step(np.array([1, 2]))
    assert truncated.tolist() == [False, True]
    assert reward.tolist() == [3, 0]
    assert obs["pair"][1].tolist() == last["pair"][1].tolist() == [5, 2]
    fault = backend.faults[-1]
    assert (fault.kind, fault.index) == ("raised", 1)
    assert "ValueError: third step of 5" in fault.text
    obs = backend.reset(truncated, np.array([0, 8]))
    assert obs["pair"].tolist() == [[4, 3], [8, 0]]


class RaisesFirst(Odd):
    """Raises at the first step of episode 70."""

    def step(self, action):
        if self.seed == 70:
            raise ValueError("first step")
        return super().step(action)


def test_announced_episodes_are_begun_by_the_actor_and_end_where_they_began(options):
    [backend] = make_groups(RaisesFirst, 2, options(workers=1))
    begin_ahead(backend)
    out = backend.step(np.ones(2, dtype=np.int64))
    assert out.obs["pair"].tolist() == [[70, 0], [8, 4]]  # cut at its first observation
    assert out.truncated.tolist() == [True, True]
    obs = backend.reset(np.array([True, True]), np.array([9, 81]))  # another seed than announced
    assert obs["pair"].tolist() == [[9, 0], [81, 0]]
    backend.reset(np.array([True, True]), np.array([7, 14]))  # three steps long, both
    backend.announce(np.array([21, 28]))
    for _ in range(3):
        backend.step(np.ones(2, dtype=np.int64))
    obs = backend.reset(np.array([True, True]), np.array([21, 99]))  # one as announced
    assert obs["pair"].tolist() == [[21, 0], [99, 0]]


def test_an_actor_never_imports_torch(options):
    [backend] = make_groups("CartPole-v1", 4, options(native=False))
    backend.reset(np.ones(4, dtype=bool), np.arange(4))
    for handle in backend.pool.handles:
        with open(f"/proc/{where(handle)[1]}/maps") as file:
            assert "libtorch" not in file.read()


def test_close_ends_the_actors(options):
    import ray

    [backend] = make_groups("CartPole-v1", 2, options())
    actor = backend.pool.handles[0].actor
    backend.close()
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.run.remote(1, 0, ()), timeout=30)


@pytest.mark.parametrize(("env", "changes", "message"), [
    ("CartPol-v1", {}, "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
    (lambda: 1 / 0, {}, "cannot make .lambda.: ZeroDivisionError"),
    ("CartPole-v1", {"worker_cpus": 64.0}, r"worker 0 found no place within 2 s: it reserves 64 CPU"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:a worker asks for 64 CPU")
def test_what_cannot_be_is_one_clear_line(options, monkeypatch, env, changes, message):
    if changes:
        monkeypatch.setattr("retain.envs.workers.actors.START_TIMEOUT", 2.0)
    with pytest.raises(UsageError, match=message):
        make_groups(env, 4, options(**changes))


def test_a_node_with_another_version_is_told(options, monkeypatch):
    monkeypatch.setattr("retain.envs.workers.actors.__version__", "99.0")
    with pytest.raises(UsageError, match=r"a node of the Ray has retain .* \(expected 99.0"):
        make_groups("CartPole-v1", 4, options())
    assert "retain" in sys.modules
