"""Atari: whole games as episodes, seeds that mean the same at any index, lives, observations."""

import numpy as np
import pytest
import torch

import retain
from retain.envs.groups import make_groups
from retain.envs.make import make
from retain.envs.options import EnvOptions
from retain.envs.vector import Vector
from retain.errors import UsageError
from retain.train.playback import play_back

GAME = "ALE/Breakout-v5"
SMALL = {"num_envs": 2, "num_steps": 16, "batch_size": 32, "epochs": 1, "seed": 2}


def test_a_game_is_its_seed_and_its_actions_at_any_index():
    pair, alone = make(GAME, 2, EnvOptions(frame_stack=1)), make(GAME, 1, EnvOptions(frame_stack=1))
    everywhere = np.ones(2, dtype=bool)
    one = pair.reset(everywhere, np.array([9, 5]))
    assert one.shape == (2, 1, 84, 84)
    assert one.dtype == np.uint8
    two = alone.reset(everywhere[:1], np.array([5]))
    dice = np.random.default_rng(0)
    resets = 0
    for _ in range(400):
        np.testing.assert_array_equal(one[1], two[0])
        action = dice.integers(0, 4, 2)
        left, right = pair.step(action), alone.step(action[1:])
        assert left.reward[1] == right.reward[0]
        ended = left.terminated | left.truncated
        assert ended[1] == right.terminated[0]
        one, two = left.obs, right.obs
        if ended.any():
            resets += 1
            before = one.copy()
            one = pair.reset(ended, np.array([70, 80]) + resets)
            np.testing.assert_array_equal(one[~ended], before[~ended])
            if ended[1]:
                two = alone.reset(everywhere[:1], np.array([80]) + resets)
    assert resets


def test_a_lost_life_ends_the_learners_episode_but_not_the_game():
    backend = make(GAME, 1, EnvOptions(episodic_life=True))
    backend.reset(np.ones(1, dtype=bool), np.array([3]))
    dice = np.random.default_rng(0)
    lives, ends = [], []
    for t in range(600):
        out = backend.step(dice.integers(0, 4, 1))
        if out.terminated[0]:
            lives.append(bool(backend.continuing[0]))
            before = out.obs.copy()
            after = backend.reset(np.ones(1, dtype=bool), np.array([99]))
            assert np.array_equal(before, after) == lives[-1]
            if not lives[-1]:
                ends.append(t)
                break
    assert lives == [True] * 4 + [False]
    assert backend.history.seeds.tolist() == [99]
    assert backend.history.length.tolist() == [0]
    assert ends


def test_training_counts_whole_games_in_their_own_points_and_replays_them(tmp_path):
    settings = SMALL | {"num_steps": 256, "batch_size": 512, "memory": "lstm"}
    agent = retain.PPO(GAME, **settings)
    assert agent.run_settings.episodic_life
    rollout = agent.collector.collect(512)
    games = agent.collector.statistics.recent
    assert 0 < len(games) < rollout.reset[1:].sum()
    assert rollout.reward.max() <= 1.0
    assert rollout.obs.dtype == torch.uint8
    agent.learn(1024, out=tmp_path / "run")
    result = play_back(tmp_path / "run", video=tmp_path / "game.gif")
    assert result.same
    assert result.length > 100


def test_a_run_of_lives_resumes_exactly(tmp_path):
    def fresh():
        return retain.PPO(GAME, **SMALL, memory="gru", lr_schedule="constant")

    whole = fresh().learn(640)
    half = fresh().learn(320)
    half.save(tmp_path / "half")
    again = retain.load(tmp_path / "half").learn(320)
    for a, b in zip(whole.policy.state_dict().values(), again.policy.state_dict().values(),
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)
    assert whole.collector.statistics.recent == again.collector.statistics.recent


def test_groups_step_in_the_background():
    told = []
    for groups in (1, 2):
        parts = make_groups(GAME, 4, EnvOptions(env_groups=groups))
        width = 4 // groups
        rows = []
        for g, part in enumerate(parts):
            seeds = np.arange(4)[g * width : (g + 1) * width]
            rows.append(part.reset(np.ones(width, dtype=bool), seeds).copy())
        for t in range(20):
            for part in parts:
                part.send(np.full(width, t % 4))
            rows.append(np.concatenate([part.receive().obs for part in parts]))
        told.append(rows)
    np.testing.assert_array_equal(told[0][0], np.concatenate(told[1][:2]))
    for one, two in zip(told[0][1:], told[1][2:], strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_single_game_is_gymnasiums_and_known_without_importing_ale_py():
    import subprocess
    import sys

    code = """
from retain.envs.make import make_single
env = make_single("ALE/Pong-v5")
print(env.reset(seed=1)[0].shape)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "(210, 160, 3)"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_acting_and_training_agree_on_pixels(precision):
    agent = retain.PPO(GAME, **SMALL, memory="lstm", learning_rate=0.0, precision=precision)
    metrics = [agent.iterate(lambda: 0.0) for _ in range(2)]
    assert max(m["first_log_ratio"] for m in metrics) < (1e-5 if precision == "float32" else 1e-2)


def test_bfloat16_gives_the_same_features_up_to_rounding():
    torch.manual_seed(0)
    space = make(GAME, 1).observation_space
    from retain.nn.encoders import NatureCNN

    plain, half = NatureCNN(space), NatureCNN(space, "bfloat16")
    half.load_state_dict(plain.state_dict())
    obs = torch.randint(0, 256, (2, 3, 4, 84, 84), dtype=torch.uint8)
    a, b = plain(obs), half(obs)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, atol=0.02 * a.abs().max().item(), rtol=0.05)


@pytest.mark.parametrize(("env", "options", "message"), [
    ("ALE/Pongg-v5", {}, "unknown environment 'ALE/Pongg-v5'; did you mean 'ALE/Pong-v5'"),
    (GAME, {"workers": 2}, "steps in its own threads"),
    (GAME, {"flicker": 0.5}, "flicker cannot be used with ALE/Breakout-v5"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(env, options, message):
    with pytest.raises(UsageError, match=message):
        make_groups(env, 2, EnvOptions(**options))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_ale_pys_own_vector_environment_is_the_same_timeline(mode):
    from ale_py.vector_env import AtariVectorEnv

    vector = AtariVectorEnv(
        "breakout", 2, autoreset_mode=mode, reward_clipping=False, max_num_frames_per_episode=160
    )
    theirs, ours = Vector(vector), make(GAME, 2, EnvOptions(time_limit=40))
    assert theirs.plays_back
    assert theirs.fresh(2) is None  # there is no single version of it
    dice, ends = np.random.default_rng(0), 0
    for backend in (ours, theirs):
        backend.reset(np.ones(2, dtype=bool), np.array([9, 5]))
    for step in range(50):
        action = dice.integers(0, 4, 2)
        one, two = ours.step(action), theirs.step(action)
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left, right)
        ended = one.terminated | one.truncated
        if ended.any():
            ends += 1
            first = [backend.reset(ended, np.array([step, 7])) for backend in (ours, theirs)]
            np.testing.assert_array_equal(*first)
    assert ends
