"""Worker processes: the same numbers for any number of them, and nothing lost when one dies."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from odd import Hangs, Moody, Odd, Raises, begin_ahead, equal, play

import retain
from retain.envs.groups import make_groups
from retain.envs.options import EnvOptions
from retain.envs.workers import pool as pool_module
from retain.envs.workers import protocol
from retain.envs.workers.pool import Pool
from retain.errors import EnvironmentFailure, UsageError

SMALL = {"num_envs": 4, "num_steps": 16, "batch_size": 32, "epochs": 1, "hidden": (8,),
         "seed": 3, "sequence_length": None}  # fmt: skip


def same(one, two):
    return all(torch.equal(a, b) for a, b in
               zip(one.policy.state_dict().values(), two.policy.state_dict().values(), strict=True))  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
def test_workers_answer_what_this_process_would(groups):
    here = make_groups(Odd, 6, EnvOptions(env_groups=groups))
    expected = play(here, 30)
    for count in (1, 3):
        there = make_groups(Odd, 6, EnvOptions(env_groups=groups, workers=count))
        equal(play(there, 30), expected)
        assert there[0].observation_space == here[0].observation_space
        assert there[0].action_space == here[0].action_space
        there[0].close()


@pytest.mark.parametrize(("algo", "env", "memory", "groups"), [
    ("PPO", "CartPoleNoVel-v1", "lstm", 1), ("PPO", "Acrobot-v1", "none", 2),
    ("PPO", "PendulumNoVel-v1", "gru", 2), ("SAC", "PendulumNoVel-v1", "lstm", 1),
])  # fmt: skip
def test_training_is_the_same_for_any_number_of_workers(algo, env, memory, groups):
    settings = SMALL if algo == "PPO" else {
        "num_envs": 4, "seed": 3, "hidden": (8,), "memory_hidden": 8, "learning_starts": 40,
        "batch_size": 32, "sequence_length": 4, "num_steps": 25, "update_ratio": 0.2,
        "buffer_size": 1000}  # fmt: skip
    trained = [
        getattr(retain, algo)(env, memory=memory, **settings, workers=workers, env_groups=groups)
        .learn(200)
        for workers in (0, 1, 2)
    ]  # fmt: skip
    assert same(trained[0], trained[1])
    assert same(trained[0], trained[2])


def test_groups_change_nothing_but_the_order_of_noise():
    """The rollout of two groups holds the same environments in the same columns."""
    agent = retain.PPO(Odd, **SMALL, env_groups=2)
    rollout = agent.collector.collect(16)
    whole = retain.PPO(Odd, **SMALL).collector.collect(16)
    assert torch.equal(rollout.obs["pair"], whole.obs["pair"])
    assert torch.equal(rollout.reset, whole.reset)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_killed_worker_is_replaced_and_nothing_is_lost(groups):
    expected = play(make_groups(Odd, 4, EnvOptions(env_groups=groups)), 40)
    there = make_groups(Odd, 4, EnvOptions(env_groups=groups, workers=2))
    dice = np.random.default_rng(groups)
    killed = []

    def disturb(t):
        if dice.random() < 0.2:
            time.sleep(dice.random() * 0.002)
            victim = there[0].pool.handles[dice.integers(2)].process
            victim.send_signal(signal.SIGKILL)
            killed.append(t)

    equal(play(there, 40, disturb), expected)
    assert len(killed) > 3
    kinds = [fault.kind for fault in there[0].faults]
    assert kinds
    assert set(kinds) == {"worker died"}
    there[0].close()


def test_training_goes_on_bit_identically_when_workers_are_killed(tmp_path):
    settings = SMALL | {"memory": "lstm", "workers": 2, "env_groups": 2}
    calm = retain.PPO("CartPoleNoVel-v1", **settings).learn(640)
    rough = retain.PPO("CartPoleNoVel-v1", **settings)
    dice = np.random.default_rng(0)
    send = rough.backends[1].send

    def disturbed(action):
        send(action)
        if dice.random() < 0.1:
            handles = rough.backends[0].pool.handles
            handles[dice.integers(2)].process.send_signal(signal.SIGKILL)

    rough.backends[1].send = disturbed
    rough.learn(640, out=tmp_path / "run")
    assert same(calm, rough)
    assert calm.collector.statistics.recent == rough.collector.statistics.recent
    text = (tmp_path / "run" / "incidents.jsonl").read_text()
    assert '"kind": "worker died"' in text


def test_a_hung_worker_is_replaced(tmp_path):
    expected = play(make_groups(Odd, 2, EnvOptions()), 12)
    options = EnvOptions(workers=2, worker_timeout=0.5)
    there = make_groups(lambda: Hangs(tmp_path / "mark"), 2, options)
    equal(play(there, 12), expected)
    assert [fault.kind for fault in there[0].faults] == ["worker hung"]
    there[0].close()


def test_an_environment_that_always_kills_its_worker_stops_the_run():
    class Kills(Odd):
        def step(self, action):
            os.kill(os.getpid(), signal.SIGKILL)

    [backend] = make_groups(Kills, 2, EnvOptions(workers=1))
    backend.reset(np.ones(2, dtype=bool), np.arange(2))
    with pytest.raises(EnvironmentFailure, match=r"worker 0 ended .status -9., 3 times in a row"):
        backend.step(np.ones(2, dtype=np.int64))
    backend.close()


def test_an_episode_that_cannot_be_replayed_is_cut_where_it_was():
    [backend] = make_groups(Moody, 4, EnvOptions(workers=2))
    backend.reset(np.ones(4, dtype=bool), np.full(4, 6))
    before = {k: x.copy() for k, x in backend.step(np.ones(4, dtype=np.int64)).obs.items()}
    backend.pool.handles[1].process.kill()
    backend.pool.handles[1].process.wait()
    obs, reward, terminated, truncated = backend.step(np.ones(4, dtype=np.int64))
    assert truncated.tolist() == [False, False, True, True]
    assert not terminated.any()
    assert reward.tolist() == [2, 2, 0, 0]
    np.testing.assert_array_equal(obs["pair"][2:], before["pair"][2:])
    np.testing.assert_array_equal(obs["sum"], [2, 2, 1, 1])
    assert [f.kind for f in backend.faults] == ["worker died"] + ["not deterministic"] * 2
    assert [f.index for f in backend.faults] == [-1, 2, 3]
    backend.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_environment_that_raises_ends_its_episode_as_truncated(workers):
    [backend] = make_groups(Raises, 2, EnvOptions(workers=workers))
    backend.reset(np.ones(2, dtype=bool), np.array([4, 5]))
    for _ in range(2):
        last = {k: x.copy() for k, x in backend.step(np.array([1, 2])).obs.items()}
    obs, reward, terminated, truncated = backend.step(np.array([1, 2]))
    assert truncated.tolist() == [False, True]
    assert reward.tolist() == [3, 0]
    assert not terminated.any()
    assert obs["pair"][1].tolist() == last["pair"][1].tolist() == [5, 2]
    [fault] = backend.faults
    assert (fault.kind, fault.index) == ("raised", 1)
    assert "ValueError: third step of 5" in fault.text
    obs = backend.reset(truncated, np.array([0, 8]))
    assert obs["pair"].tolist() == [[4, 3], [8, 0]]
    backend.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_three_exceptions_in_a_row_stop_the_run_with_a_report_and_a_checkpoint(tmp_path, workers):
    import json

    run = tmp_path / "run"
    agent = retain.PPO(lambda: Raises(always=True), **SMALL, workers=workers)
    with pytest.raises(EnvironmentFailure, match=r"environment 0.*3 episodes in a row.*third step"):
        agent.learn(1000, out=run)
    lines = [json.loads(line) for line in (run / "incidents.jsonl").read_text().splitlines()]
    first = lines[0]
    assert first["kind"] == "raised"
    assert len(first["actions"]) == 3
    env = Raises(always=True)
    env.reset(seed=first["seed"])
    *before, last = first["actions"]
    for action in before:
        env.step(action)
    with pytest.raises(ValueError, match=f"third step of {first['seed']}"):
        env.step(last)
    again = retain.load(run, env=Odd)
    assert again.steps == 64


def test_a_worker_never_imports_torch_and_leaves_with_its_parent():
    """Killed without a chance to clean up, the parent leaves no process and no shared memory."""
    code = """
import numpy as np, os, sys, time
from retain.envs.groups import make_groups
from retain.envs.options import EnvOptions
[backend] = make_groups("CartPole-v1", 4, EnvOptions(workers=2, native=False))
backend.reset(np.ones(4, dtype=bool), np.arange(4))
for handle in backend.pool.handles:
    maps = open(f"/proc/{handle.process.pid}/maps").read()
    print(handle.process.pid, "torch" in maps or "cuda" in maps.lower())
sys.stdout.flush()
backend.send(np.zeros(4, dtype=np.int64))
time.sleep(60)
"""
    before = set(os.listdir("/dev/shm"))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    lines = [parent.stdout.readline().split() for _ in range(2)]
    assert [torch_there for _, torch_there in lines] == ["False", "False"]
    pids = [int(pid) for pid, _ in lines]
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)
    assert set(os.listdir("/dev/shm")) <= before


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_announced_episodes_are_begun_by_the_workers_before_anybody_asks():
    [backend] = make_groups(Odd, 2, EnvOptions(workers=1))
    begin_ahead(backend)
    assert backend.step(np.ones(2, dtype=np.int64)).obs["pair"].tolist() == [[70, 1], [8, 4]]
    obs = backend.reset(np.array([False, True]), np.array([0, 81]))  # another seed than announced
    assert obs["pair"].tolist() == [[70, 1], [81, 0]]
    backend.close()


def test_an_episode_begun_ahead_is_begun_again_by_the_worker_that_replaces_a_dead_one():
    [backend] = make_groups(Odd, 1, EnvOptions(workers=1))
    backend.reset(np.ones(1, dtype=bool), np.array([7]))  # three steps long
    backend.announce(np.array([70]))
    for _ in range(3):
        backend.step(np.ones(1, dtype=np.int64))
    process = backend.pool.handles[0].process
    process.kill()
    process.wait()
    backend.pool.ask(backend.pool.handles[0], backend.reset_code)  # whatever is asked next
    backend.arrays["mask"][:] = False
    backend.pool.wait(backend.pool.handles[0], backend.reset_code)
    backend.reset(np.ones(1, dtype=bool), np.array([70]))
    out = backend.step(np.full(1, 3))
    assert out.obs["pair"].tolist() == [[70, 1]]
    assert out.obs["sum"].tolist() == [3]
    backend.close()


def test_close_ends_the_workers():
    pool = Pool("Acrobot-v1", 2, EnvOptions(workers=2))
    pids = [handle.process.pid for handle in pool.handles]
    pool.groups[0].close()
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize(("env", "changes", "message"), [
    ("CartPole-v1", {"workers": 3}, "workers is 3, but a group has 2"),
    ("CartPole-v1", {"env_groups": 3}, "num_envs 4 cannot be cut into 3 env_groups; nearest that can: 3"),
    ("CartPol-v1", {"workers": 1}, "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
    (lambda: 3, {"workers": 1}, "returned int"),
    (lambda: 1 / 0, {"workers": 1}, "cannot make .lambda.: ZeroDivisionError"),
])  # fmt: skip
def test_what_cannot_be_is_one_clear_line(env, changes, message):
    options = EnvOptions(**({"env_groups": 2} | changes))
    with pytest.raises(UsageError, match=f"(?s){message}"):
        make_groups(env, 4, options)


def test_off_policy_agents_refuse_groups():
    with pytest.raises(UsageError, match="env_groups is 2, but sac learns between steps"):
        retain.SAC("Pendulum-v1", num_envs=2, env_groups=2)


def test_a_watch_looks_a_while_and_sleeps_where_others_need_the_core(monkeypatch):
    counter = np.zeros(1, np.int64)
    clock, looks = [0], []
    monkeypatch.setattr(protocol.time, "perf_counter_ns", lambda: clock[0])

    def offer(answers=False, takes=1000):
        looks.append(1)
        clock[0] += takes
        counter[0] += answers

    monkeypatch.setattr(protocol, "offer_core", offer)
    watch = protocol.Watch(counter.data, looks=7)
    assert not watch.reached(1)
    assert len(looks) == 7
    assert watch.pause == 0

    # Somebody needs the core for long in order to answer: that is what the offer is for.
    monkeypatch.setattr(protocol, "offer_core", lambda: offer(True, 10**6))
    assert watch.reached(1)
    assert watch.pause == 0
    # For long, and there is no answer: the next waits do not look.
    monkeypatch.setattr(protocol, "offer_core", lambda: offer(False, 10**6))
    looks.clear()
    assert not watch.reached(2)
    assert not watch.reached(2)
    assert len(looks) == 7
    assert watch.pause == protocol.Watch.PAUSE - 1
    counter[0] = 2
    assert watch.reached(2)


@pytest.mark.parametrize(("cores", "looks"), [(1, 10), (2, 10), (3, 100)])
def test_the_parent_looks_little_where_no_core_is_to_spare(monkeypatch, cores, looks):
    monkeypatch.setattr(pool_module, "usable_cores", lambda: cores)
    pool = Pool("CartPole-v1", 2, EnvOptions(workers=2, native=False))
    assert {handle.watch.looks for handle in pool.handles} == {looks}
    pool.close()


def test_a_system_without_what_workers_need_is_told_so(monkeypatch):
    monkeypatch.setattr("retain.envs.workers.pool.AVAILABLE", False)
    with pytest.raises(UsageError, match=r"workers is 2, but worker processes need .*expected 0"):
        make_groups("CartPole-v1", 4, EnvOptions(workers=2))
    assert make_groups("CartPole-v1", 4, EnvOptions())[0].num_envs == 4
