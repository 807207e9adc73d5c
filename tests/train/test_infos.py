"""What an environment says as an episode ends: the same from every backend, logged and evaluated."""

import csv
import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import retain
from retain.data.episodes import Episodes, info_means, numbers
from retain.envs.groups import make_groups
from retain.envs.options import EnvOptions
from retain.envs.vector import Vector
from retain.train import checkpoint as store
from retain.train.resume import resume

SMALL = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,), "seed": 3,
         "tensorboard": False}  # fmt: skip


class Says(gym.Env):
    """Episodes of 3 to 6 steps; the last info is big enough to fill any pipe."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(3, 7))
        return np.zeros(1, np.float32), {"is_success": "of the reset"}

    def step(self, action):
        self.t += 1
        over = self.t == self.length
        info = {"is_success": self.length > 4, "left": np.float32(self.length - self.t),
                "many": np.zeros((300, 300)), "odd": object(), "reset": self.t}  # fmt: skip
        return np.zeros(1, np.float32), 1.0, over, False, info


class Quiet(Says):
    """Says nothing but whether it succeeded, and that only at the end."""

    def step(self, action):
        obs, reward, over, cut, info = super().step(action)
        return obs, reward, over, cut, {"is_success": info["is_success"]} if over else {}


@pytest.mark.parametrize(("workers", "groups"), [(0, 1), (2, 2)])
def test_the_last_info_comes_with_the_episode(workers, groups):
    backends = make_groups(Says, 4, EnvOptions(workers=workers, env_groups=groups))
    found = []
    try:
        runs = [Episodes(backend, 7, first=2 * n) for n, backend in enumerate(backends)]
        for one in runs:
            one.begin(np.ones(one.backend.num_envs, dtype=bool))
        for _ in range(20):
            for one in runs:
                one.backend.send(np.zeros(one.backend.num_envs, dtype=np.int64))
            for one in runs:
                step = one.backend.receive()
                one.record(step.reward)
                ended = step.terminated | step.truncated
                if ended.any():
                    one.finish(ended)
                    found += one.statistics.take_finished()
                    one.begin(ended)
    finally:
        backends[0].close()
    assert len(found) > 12
    for episode in found:
        assert episode.info["reset"] == episode.length
        assert episode.info["is_success"] == (episode.length > 4)
        assert episode.info["left"] == 0
        assert episode.info["many"].shape == (300, 300)
        assert ("odd" in episode.info) == (workers == 0)  # no plain data
    assert numbers(found[0].info) == {
        "is_success": float(found[0].length > 4), "left": 0.0, "reset": float(found[0].length)
    }  # fmt: skip


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_a_vector_environment_says_it_in_every_mode(mode):
    backend = Vector(SyncVectorEnv([Quiet] * 3, autoreset_mode=mode))
    runs = Episodes(backend, 7)
    runs.begin(np.ones(3, dtype=bool))
    for _ in range(20):
        step = backend.step(np.zeros(3, dtype=np.int64))
        if step.terminated.any():
            runs.finish(step.terminated)
            runs.begin(step.terminated)
    found = runs.statistics.take_finished()
    assert len(found) > 9
    for episode in found:
        assert numbers(episode.info) == {"is_success": float(episode.length > 4)}


def test_atari_says_what_its_games_say():
    [backend] = make_groups("ALE/Pong-v5", 2, EnvOptions(time_limit=3))
    runs = Episodes(backend, 1)
    runs.begin(np.ones(2, dtype=bool))
    while not (step := backend.step(np.zeros(2, dtype=np.int64))).truncated.any():
        pass
    runs.finish(step.truncated)
    assert numbers(runs.statistics.take_finished()[0].info)["lives"] == 0.0
    backend.close()


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_success_and_named_entries_are_logged_drawn_and_evaluated(tmp_path, capsys):
    run = tmp_path / "run"
    agent = retain.PPO(Says, **SMALL, log_info=("left", "lift"), eval_every=128, eval_episodes=4)
    agent.learn(256, out=run, progress=True)
    recent = list(agent.collector.statistics.recent)
    last = rows(run)[-1]
    share = sum(e.length > 4 for e in recent) / len(recent)
    assert 0 < share < 1
    assert float(last["is_success"]) == pytest.approx(share)
    assert (last["left"], last["lift"]) == ("0", "nan")
    assert 0 <= float(last["eval_is_success"]) <= 1
    assert (last["eval_left"], last["eval_lift"]) == ("0", "nan")
    error = capsys.readouterr().err
    assert (
        error.count(
            "log_info 'lift': no number of that name in the last infos; did you mean 'left'"
        )
        == 1
    )
    result = agent.evaluate(8)
    assert result.info["is_success"] == pytest.approx(
        np.mean([length > 4 for length in result.returns])
    )
    assert result.summary()["is_success"] == result.info["is_success"]


def test_infos_survive_a_resume(tmp_path):
    class Stop(retain.Callback):
        def on_row(self, event):
            return event.run.steps >= 256

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    timing = ("seconds", "steps_per_second")
    for folder, callbacks in ((whole, []), (parts, [Stop()])):
        retain.PPO("retain_tests_says", **SMALL).learn(640, out=folder, callbacks=callbacks)
    resume(parts)
    one, two = ([{k: v for k, v in r.items() if k not in timing} for r in rows(f)]
                for f in (whole, parts))  # fmt: skip
    assert one == two
    assert float(one[-1]["is_success"]) > 0
    assert store.checkpoints(parts)


gym.register("retain_tests_says", Says)


def test_a_name_that_is_a_metrics_is_refused():
    with pytest.raises(retain.UsageError, match="log_info 'entropy' is the name of a metric"):
        retain.PPO(Says, **SMALL, log_info=("entropy",)).learn(128)


def test_an_environment_without_infos_gets_no_column(tmp_path):
    retain.PPO("CartPole-v1", **SMALL).learn(256, out=tmp_path)
    assert "is_success" not in rows(tmp_path)[-1]
    assert info_means([], ()) == {}


def test_numbers_of_any_kind_count_and_other_things_do_not():
    info = {"a": np.array([2.0]), "b": np.float32(3.0), "c": True, "d": 4, "no": "5",
            "many": np.zeros(2), "none": np.zeros(0)}  # fmt: skip
    assert numbers(info) == {"a": 2.0, "b": 3.0, "c": 1.0, "d": 4.0}


def test_an_entry_that_no_episode_has_is_not_a_number_and_success_is_left_out():
    found = info_means([], ["lap_time"])
    assert list(found) == ["lap_time"]
    assert math.isnan(found["lap_time"])
