"""Every episode of a run can be played again."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import retain
from retain.errors import CheckpointError, UsageError
from retain.train.playback import play_back
from retain.train.recorder import EPISODES, recorded, recorded_actions
from retain.train.resume import resume

SMALL = {"num_envs": 4, "num_steps": 32, "batch_size": 64, "epochs": 1, "hidden": (8,),
         "seed": 3, "sequence_length": None}  # fmt: skip


@pytest.mark.parametrize(("algo", "env", "options"), [
    ("PPO", "CartPoleNoVel-v1", {"memory": "lstm", "env_groups": 2}),
    ("PPO", "Pendulum-v1", {"num_steps": 256, "batch_size": 512}),
    ("PPO", "Acrobot-v1", {"workers": 2, "time_limit": 40, "sticky_actions": 0.2}),
    ("SAC", "PendulumNoVel-v1", {"num_envs": 2, "learning_starts": 2000, "num_steps": 100}),
])  # fmt: skip
def test_every_episode_of_a_run_comes_to_the_same_again(tmp_path, algo, env, options):
    settings = (SMALL if algo == "PPO" else {"seed": 1}) | options
    agent = getattr(retain, algo)(env, **settings)
    episodes = agent.collector.statistics
    agent.learn(1200, out=tmp_path / "run")
    lines = (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()
    assert len(lines) == episodes.total > 0
    for number in range(0, len(lines), max(1, len(lines) // 7)):
        result = play_back(tmp_path / "run", number)
        assert result.number == number
        assert result.same
        assert result.ret == json.loads(lines[number])["ret"]
    assert [e.ret for e in list(episodes.recent)[-1:]] == [play_back(tmp_path / "run").ret]


def test_the_record_of_a_resumed_run_is_that_of_one_never_stopped(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = SMALL | {"checkpoint_every": 300}
    retain.PPO("CartPole-v1", **settings).learn(1280, out=whole)
    # The run folder of one that was killed: a checkpoint in the middle, and files written past it.
    retain.PPO("CartPole-v1", **settings).learn(1280, out=parts)
    middle = sorted((parts / "checkpoints").iterdir())[-2]
    for path in (parts / "checkpoints").iterdir():
        if path > middle:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    with (parts / "actions.bin").open("ab") as file:
        file.write(b"torn")
    resume(parts)
    for name in ("actions.bin", "episodes.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def cut(run, keep):
    """The run folder as a kill leaves it: the first `keep` checkpoints, and files written past
    them."""
    for path in sorted((run / "checkpoints").glob("step_*"))[keep:]:
        shutil.rmtree(path)


@pytest.mark.parametrize(("groups", "workers"), [(1, 2), (2, 0), (3, 1)])
def test_every_episode_of_a_resumed_run_plays_again(tmp_path, groups, workers):
    run = tmp_path / "run"
    settings = SMALL | {"num_envs": 6, "env_groups": groups, "workers": workers,
                        "checkpoint_every": 300, "keep": 9}  # fmt: skip
    retain.PPO("CartPole-v1", **settings).learn(1100, out=run)
    cut(run, 3)
    resume(run)
    lines = [json.loads(x) for x in (run / "episodes.jsonl").read_text().splitlines()]
    played = [play_back(run, number) for number in range(len(lines))]
    assert len(played) > 20
    assert [p.same for p in played] == [True] * len(played)
    assert {line["env"] for line in lines} == set(range(6))


def test_an_episode_that_began_before_the_record_is_left_out(tmp_path):
    agent = retain.PPO("CartPole-v1", **SMALL).learn(128)
    agent.learn(640, out=tmp_path / "run")
    lines = [json.loads(x) for x in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    assert min(line["first"] for line in lines) >= 0
    assert all(play_back(tmp_path / "run", n).same for n in range(len(lines)))


class Moody(gym.Env):
    """Not deterministic: its reward counts the environments ever made."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2, start=-1)
    made = 0

    def __init__(self):
        Moody.made += 1
        self.mine = Moody.made

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), float(self.mine), self.t == 5, False, {}


def test_a_difference_is_told(tmp_path):
    agent = retain.PPO(Moody, **SMALL).learn(128, out=tmp_path / "run")
    assert not play_back(tmp_path / "run", env=Moody).same
    record, _ = recorded(tmp_path / "run", 0)
    actions = recorded_actions(tmp_path / "run", record, agent.action_space, 4)
    assert set(actions.tolist()) <= {-1, 0}
    with pytest.raises(UsageError, match="was a Python object"):
        play_back(tmp_path / "run")


def test_videos_are_written_and_what_cannot_be_is_one_line(tmp_path, capsys):
    from retain.cli.main import run

    folder = tmp_path / "run"
    retain.PPO("CartPoleNoVel-v1", **SMALL).learn(256, out=folder)
    record, _ = recorded(folder, 0)
    assert run(["playback", str(folder), "--episode", "0", "--video", str(tmp_path / "a.gif")]) == 0
    assert "the replay gave the same result" in capsys.readouterr().out
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames > 1
        assert image.size[0] > 100
    play_back(folder, 0, video=tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").stat().st_size > 1000
    for arguments, message in (
        (["--episode", "9999"], f"{folder} has no episode 9999 (expected 0 to"),
        (["--video", str(tmp_path / "a.avi")], "expected a name that ends in .gif or .mp4"),
    ):
        assert run(["playback", str(folder), *arguments]) == 2
        assert message in capsys.readouterr().err
    retain.PPO("TMaze-v0", **SMALL).learn(256, out=tmp_path / "maze")
    assert run(["playback", str(tmp_path / "maze"), "--video", str(tmp_path / "b.gif")]) == 2
    assert "cannot be drawn" in capsys.readouterr().err
    retain.PPO("TMaze-v0", **SMALL, record_episodes=False).learn(256, out=tmp_path / "quiet")
    with pytest.raises(CheckpointError, match="no record of episodes"):
        play_back(tmp_path / "quiet")
    assert record.length > 0


def test_a_damaged_record_names_its_line(tmp_path):
    retain.PPO("CartPole-v1", **SMALL).learn(256, out=tmp_path / "run")
    path = tmp_path / "run" / EPISODES
    lines = path.read_text().splitlines()
    lines[2] = '{"seed": "none"}'
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"episodes\.jsonl, line 3"):
        recorded(tmp_path / "run", 2)
