"""The replay is the timeline: every row's successor is the next row, whatever wraps or ends."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from retain.data.priorities import SumTree
from retain.data.replay import Replay
from retain.errors import UsageError

B = 3
SPACE = gym.spaces.Box(-np.inf, np.inf, (3,), dtype=np.float64)


class World:
    """B environments that observe (environment, episode, step) and end on a fixed plan.

    The reward of a step is its 1-based number, the action a serial number; the carry is
    (environment, steps so far).
    """

    def __init__(self, replay, lengths=(4, 1, 7, 3)):
        self.replay, self.lengths = replay, lengths
        self.episode, self.t = np.full(B, -1), np.zeros(B, dtype=int)
        self.serial = 0
        self.begin(np.ones(B, dtype=bool))

    def obs(self):
        return np.stack((np.arange(B), self.episode, self.t), axis=1).astype(float)

    def begin(self, mask):
        self.episode[mask] += 1
        self.t[mask] = 0
        self.replay.begin(self.obs(), mask)

    def run(self, steps):
        for _ in range(steps):
            place = np.stack((np.arange(B), self.episode, self.t), axis=1)
            self.replay.store_carry((torch.from_numpy(place).float(),))
            self.t += 1
            length = np.array([self.lengths[(e + b) % len(self.lengths)]
                               for b, e in enumerate(self.episode)])  # fmt: skip
            over = self.t >= length
            cut = over & (self.episode % 2 == 1)
            action = torch.arange(self.serial, self.serial + B)
            self.serial += B
            self.replay.add(action, self.t.astype(float), over & ~cut, cut, self.obs())
            if over.any():
                self.begin(over)
        return self


def build(capacity=90, **options):
    return Replay(SPACE, (), torch.int64, num_envs=B, capacity=capacity, **options)


def whole(obs, lengths=(4, 1, 7, 3)):
    """Length of the episode that each observation is of."""
    plan = torch.tensor(lengths)
    return plan[((obs[..., 1] + obs[..., 0]) % len(lengths)).long()]


@pytest.mark.parametrize("steps", [12, 29, 30, 31, 200])
def test_a_rows_successor_is_the_true_one_before_and_after_wrapping(steps):
    replay = build()
    World(replay).run(steps)
    sample = replay.sample(500, 1)
    now, after = sample.obs
    assert sample.acted.all()
    assert torch.equal(after[:, :2], now[:, :2])  # environment and episode
    assert torch.equal(after[:, 2], now[:, 2] + 1)
    assert torch.equal(sample.reward[0], after[:, 2].float())
    over = after[:, 2] == whole(now)
    assert torch.equal(sample.terminated[0], over & (now[:, 1] % 2 == 0))
    assert torch.equal(sample.truncated[0], over & (now[:, 1] % 2 == 1))
    assert torch.equal(sample.reset[0], now[:, 2] == 0)
    assert not sample.reset[1].any()


def test_every_row_that_can_be_read_is_sampled_as_often_as_any_other():
    replay = build()
    World(replay).run(200)
    obs = replay.sample(60_000, 1).obs[0]
    _, counts = torch.unique(obs, dim=0, return_counts=True)
    flags = replay.flags.copy()
    acted = int((flags & 8).astype(bool).sum()) - B  # the oldest of each ring lacks its past
    assert acted - B <= len(counts) <= acted + B
    expected = 60_000 / len(counts)
    assert (counts - expected).abs().max() < 6 * expected**0.5


@pytest.mark.parametrize("steps", [5, 200])
def test_history_holds_the_rows_before_or_zeros_that_a_reset_follows(steps):
    replay = build()
    World(replay).run(steps)
    sample = replay.sample(300, 1, before=4)
    for n in range(300):
        obs, reset = sample.obs[:, n], sample.reset[:, n]
        start = int(torch.nonzero(reset[:5])[-1]) if reset[:5].any() else 0
        now = obs[4]
        for row in range(start, 6):  # since the last reset: one episode, step by step
            assert torch.equal(obs[row], torch.tensor([now[0], now[1], now[2] + row - 4]))
        assert start == max(0, 4 - int(now[2]))  # nothing of the episode is missing


def test_previous_action_and_reward_are_the_row_befores():
    replay = build()
    World(replay).run(200)
    sample = replay.sample(300, 3, before=2)
    inside = ~sample.reset[1:]
    assert torch.equal(sample.previous_action[1:][inside], sample.action[inside])
    assert torch.equal(sample.previous_reward[1:][inside], sample.reward[inside])
    first = ~sample.reset[0] & (sample.obs[0, :, 2] > 0)
    assert first.any()
    assert torch.equal(sample.previous_reward[0][first], sample.obs[0, :, 2][first].float())


@pytest.mark.parametrize("steps", [20, 200])
def test_sequences_start_at_stored_carries_and_mark_every_boundary(steps):
    carry = (torch.zeros(B, 3),)
    replay = build(carry=carry, stride=4)
    World(replay).run(steps)
    sample = replay.sample(200, 9)
    place = sample.carry[0]
    acted = sample.acted[0]
    assert torch.equal(place[acted], sample.obs[0][acted].float())
    for n in range(200):
        obs, reset, did = sample.obs[:, n], sample.reset[:, n], sample.acted[:, n]
        for row in range(9):
            if did[row]:
                assert torch.equal(obs[row + 1, :2], obs[row, :2])
                assert obs[row + 1, 2] == obs[row, 2] + 1
                assert not reset[row + 1]
            else:  # a final observation: the next row begins another episode
                assert reset[row + 1]
                assert obs[row + 1, 1] == obs[row, 1] + 1


def test_an_episode_cut_from_outside_ends_as_truncated():
    replay = build()
    world = World(replay, lengths=(100,)).run(5)
    world.begin(np.array([True, False, False]))
    world.run(5)
    sample = replay.sample(400, 1)
    last = (sample.obs[0, :, 0] == 0) & (sample.obs[0, :, 1] == 0) & (sample.obs[0, :, 2] == 4)
    assert last.any()
    assert sample.truncated[0][last].all()
    assert not sample.truncated[0][~last].any()


def test_rows_survive_a_round_trip_in_parts():
    replay = build(carry=(torch.zeros(B, 3),), stride=3, priority_exponent=0.5)
    world = World(replay)
    copy = build(carry=(torch.zeros(B, 3),), stride=3, priority_exponent=0.5, seed=9)
    since = np.zeros(B, dtype=np.int64)
    for steps in (7, 11, 150, 1):
        world.run(steps)
        number, index = replay.rows_since(since)
        copy.put(number, index, replay.read(number, index))
        since = replay.written.copy()
    copy.restore(*replay.state())
    one, two = replay.sample(50, 6), copy.sample(50, 6)
    for name in ("obs", "reset", "action", "reward", "acted", "terminated", "weight"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert torch.equal(one.carry[0], two.carry[0])


def test_observations_keep_their_dtype_and_may_live_in_files(tmp_path):
    space = gym.spaces.Dict({"image": gym.spaces.Box(0, 255, (2, 2), dtype=np.uint8),
                             "vector": gym.spaces.Box(-1, 1, (3,), dtype=np.float32)})  # fmt: skip
    replay = Replay(space, (), torch.int64, num_envs=1, capacity=8, folder=tmp_path)
    rng = np.random.default_rng(0)

    def draw():
        return {"image": rng.integers(0, 255, (1, 2, 2), dtype=np.uint8),
                "vector": rng.random((1, 3), dtype=np.float32)}  # fmt: skip

    never = np.zeros(1, dtype=bool)
    seen = [draw()]
    replay.begin(seen[0], ~never)
    for _ in range(20):
        seen.append(draw())
        replay.add(torch.zeros(1, dtype=torch.int64), np.ones(1), never, never, seen[-1])
    sample = replay.sample(20, 1)
    assert sample.obs["image"].dtype == torch.uint8
    stored = {obs["image"].tobytes(): obs["vector"].tobytes() for obs in seen}
    for image, vector in zip(sample.obs["image"][0], sample.obs["vector"][0], strict=True):
        assert stored[image.numpy().tobytes()] == vector.numpy().tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["obs.0.dat", "obs.1.dat"]


def test_priorities_decide_how_often_and_weights_undo_it():
    replay = build(priority_exponent=1.0)
    World(replay, lengths=(100,)).run(20)
    sample = replay.sample(2000, 1)
    assert (sample.weight == 1.0).all()  # all new: all alike
    error = np.where(sample.obs[0, :, 2].numpy() == 7.0, 3.0, 1.0)
    replay.set_priorities(sample.slot, error)
    again = replay.sample(40_000, 1, beta=1.0)
    seven = again.obs[0, :, 2] == 7.0
    assert seven.float().mean().item() == pytest.approx(3 / 22, rel=0.1)
    assert again.weight[seven].max().item() == pytest.approx(1 / 3, rel=1e-3)
    assert again.weight[~seven].min().item() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_sum_tree_draws_in_proportion(size):
    rng = np.random.default_rng(1)
    tree, weights = SumTree(size), rng.random(size)
    tree.set(np.arange(size), weights)
    tree.set(np.array([0]), 0.25)
    weights[0] = 0.25
    assert tree.total == pytest.approx(weights.sum())
    mass = np.linspace(0, tree.total, 50_000, endpoint=False)
    drawn = np.bincount(tree.find(mass), minlength=size) / len(mass)
    np.testing.assert_allclose(drawn, weights / weights.sum(), atol=1e-3)


def test_what_is_too_small_or_too_new_is_refused():
    with pytest.raises(UsageError, match="too small"):
        build(capacity=3)
    replay = build()
    World(replay).run(2)
    assert replay.can_sample(1)
    assert not replay.can_sample(30)
    with pytest.raises(UsageError, match="no piece of 40 rows"):
        replay.sample(1, 40)


@pytest.mark.parametrize(("stride", "span", "before"), [(1, 9, 6), (4, 9, 0), (5, 5, 0), (1, 1, 0)])
def test_the_least_capacity_always_holds_a_piece_and_no_smaller_one_is_taken(stride, span, before):
    options = {"stride": stride, "span": span}
    if stride > 1:
        options["carry"] = (torch.zeros(B, 3),)
    with pytest.raises(UsageError, match="too small") as refusal:
        build(capacity=B, **options)
    least = int(str(refusal.value).split("at least ")[1].rstrip(")"))
    with pytest.raises(UsageError, match=f"at least {least}"):
        build(capacity=least - 1, **options)
    world = World(build(capacity=least, **options), lengths=(1000,))
    world.run(least // B)
    for _ in range(3 * least // B):
        world.run(1)
        world.replay.sample(4, span - before, before=before)


def test_a_piece_is_found_wherever_it_is():
    """Only the last environment's second row has an action: the only piece of one step."""
    replay = Replay(SPACE, (), torch.int64, num_envs=B, capacity=30)
    replay.begin(np.zeros((B, 3)), np.ones(B, dtype=bool))
    assert not replay.can_sample(1)
    nowhere = np.zeros(B, dtype=bool)
    for _ in range(2):
        replay.add(torch.zeros(B, dtype=torch.int64), np.zeros(B), nowhere, nowhere,
                   np.zeros((B, 3)))  # fmt: skip
    replay.flags[0] = 0
    replay.flags[1, :-1] = 0
    assert replay.can_sample(1)
    assert (replay.sample(5, 1).slot == 2 * B - 1).all()


def test_its_bytes_include_the_carries():
    sizes = [
        Replay(SPACE, (), torch.int64, num_envs=B, capacity=30, stride=2, carry=carry).nbytes()
        for carry in (None, (torch.zeros(B, 4),))
    ]
    assert sizes[1] - sizes[0] == 5 * B * 4 * 4
