"""Running statistics of observations."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import retain
from retain.nn.encoders import make_encoder
from retain.nn.normaliser import ObsNormaliser, SteadyRewards

BYTES = gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)
SPACES = {
    "channels last": BYTES,
    "channels first": gym.spaces.Box(0, 255, (3, 7, 7), np.uint8),
    "one channel": gym.spaces.Box(0, 255, (7, 7), np.uint8),
}


def images(space, steps=5, envs=4):
    """`[T, B, ...]` images whose channels have ranges of their own, as in a grid world."""
    random = np.random.default_rng(0)
    shape = (steps, envs, *space.shape)
    axis = 2 if len(space.shape) == 3 and space.shape[0] == 3 else len(shape) - 1
    most = np.ones(len(shape), int)
    most[axis] = 3
    top = np.array([11, 6, 3]).reshape(most) if len(space.shape) == 3 else 11
    return torch.from_numpy(random.integers(0, top, shape, dtype=np.uint8)), axis


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_each_channel_of_a_small_image_gets_mean_0_and_spread_1(space):
    normaliser = ObsNormaliser(space)
    seen, axis = images(space)
    for step in seen.split(1):
        normaliser.update(step)
    out = normaliser(seen)
    assert (out.dtype, out.shape) == (torch.float32, seen.shape)
    for part in out.unbind(axis) if len(space.shape) == 3 else [out]:
        assert abs(float(part.mean())) < 1e-5
        assert float(part.std(correction=0)) == pytest.approx(1.0, abs=1e-5)


def test_before_any_data_bytes_are_divided_by_the_largest():
    seen, _ = images(BYTES)
    assert torch.allclose(ObsNormaliser(BYTES)(seen), seen / 255, atol=1e-7)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_statistics_of_shards_merge_into_those_of_the_whole(space):
    merges(space, images(space)[0])


def test_steady_statistics_of_shards_merge_into_those_of_the_whole():
    merges(FIVE, vectors(200), steady=True)


def merges(space, seen, **how):
    whole, merged = ObsNormaliser(space, **how), ObsNormaliser(space, **how)
    whole.update(seen)
    for part in seen.split(2, dim=1):
        merged.merge(ObsNormaliser(space, **how).summary(part))
    for one, other in zip(whole.state_dict().values(), merged.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["auto", "mlp"])
def test_an_encoder_reads_normalised_images_as_they_are(name):
    encoder = make_encoder(BYTES, (16,), "tanh", encoder=name)
    seen, _ = images(BYTES)
    torch.testing.assert_close(encoder(seen), encoder(seen / 255), atol=1e-5, rtol=1e-4)


FIVE = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)


def vectors(steps, *, spread=1.0):
    """`[T, 4, 5]` vectors with two entries of a good size, a large, a small and a distant one."""
    draw = torch.randn(steps, 4, 5, generator=torch.Generator().manual_seed(steps))
    size, middle = torch.tensor([1.0, 0.2, 300.0, 1e-3, 1.0]), torch.tensor([0, 1, 0, 0, 50.0])
    return draw * size * spread + middle


def test_a_steady_normaliser_changes_only_entries_of_another_size():
    normaliser, seen = ObsNormaliser(FIVE, steady=True), vectors(500)
    assert torch.equal(normaliser(seen / 100), seen / 100)  # before any data
    normaliser.update(seen)
    out = normaliser(seen)
    assert torch.equal(out[..., :2], seen[..., :2])
    assert out[..., 2:].flatten(0, 1).mean(0).abs().max() < 1e-4
    assert torch.allclose(out[..., 2:].flatten(0, 1).std(0), torch.ones(3), atol=1e-3)


def test_a_steady_normaliser_holds_still_until_an_entry_is_far_off_again():
    normaliser, seen = ObsNormaliser(FIVE, steady=True), vectors(500)
    normaliser.update(seen)
    before = normaliser(seen)
    normaliser.update(vectors(2000, spread=3.0))
    assert torch.equal(normaliser(seen), before)
    normaliser.update(vectors(2000, spread=100.0))
    assert not torch.equal(normaliser(seen), before)
    assert normaliser(vectors(2000, spread=100.0)).flatten(0, 1).std(0).max() < 3.0


def test_a_steady_normaliser_decides_anew_while_it_has_seen_little():
    normaliser = ObsNormaliser(FIVE, steady=True)
    first = vectors(20, spread=0.01)  # an episode's beginning
    normaliser.update(first)
    assert not torch.equal(normaliser(first)[..., 0], first[..., 0])
    normaliser.update(vectors(200))
    assert torch.equal(normaliser(first)[..., 0], first[..., 0])


def test_a_steady_normaliser_leaves_an_entry_alone_that_never_moved():
    normaliser = ObsNormaliser(FIVE, steady=True)
    normaliser.update(torch.full((30, 4, 5), 700.0))
    assert float(normaliser(torch.full((1, 1, 5), 90.0)).max()) == 90.0


def counted(*rewards):
    sizes = SteadyRewards()
    for one in rewards:
        sizes.merge(sizes.summary(torch.as_tensor(one, dtype=torch.float32)))
    return sizes


@pytest.mark.parametrize("reward", [[1.0, -1.0], [0.02] * 9, [90.0, -50.0], [0.0] * 9999 + [1.0]])
def test_rewards_of_a_good_size_stay(reward):
    assert torch.equal(counted(reward)(torch.tensor([7.0])), torch.tensor([7.0]))


def test_rewards_of_another_size_are_divided_by_it():
    assert float(counted([3e3, -4e3, 0.0, 0.0])(torch.tensor(12.5e6).sqrt())) == pytest.approx(1.0)
    small = counted([1e-3] * 50)
    assert float(small(torch.tensor(2e-3))) == pytest.approx(2.0)


def test_the_size_of_rewards_holds_still_until_they_are_far_off_again():
    sizes = counted([1e3] * 1001, [2e4] * 3000)
    assert float(sizes.size) == pytest.approx(1e3)
    sizes.merge(sizes.summary(torch.full((10**6,), 2e5)))
    assert float(sizes.size) == pytest.approx(2e5, rel=0.01)


def test_the_size_of_rewards_is_decided_anew_while_there_are_few():
    assert float(counted([1e-6] * 5, [1.0] * 500).size) == 1.0


def test_large_images_masks_and_integers_pass_through():
    space = gym.spaces.Dict(
        screen=gym.spaces.Box(0, 255, (84, 84, 4), np.uint8),
        action_mask=gym.spaces.MultiBinary(3),
        bytes=gym.spaces.Box(0, 255, (9,), np.uint8),
        vector=gym.spaces.Box(-1, 1, (2,), np.float32),
        map=BYTES,
    )
    assert set(ObsNormaliser(space).names) == {"vector", "map"}


class Grid(gym.Env):
    """The right action is the kind of object, 0 to 2 of 255, in the middle of an image."""

    observation_space, action_space = BYTES, gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.kind = int(self.np_random.integers(3))
        return self._see(), {}

    def _see(self):
        image = np.zeros(BYTES.shape, np.uint8)
        image[3, 3, 0] = self.kind
        return image

    def step(self, action):
        right = float(action == self.kind)
        self.kind = int(self.np_random.integers(3))
        return self._see(), right, False, False, {}


def test_derived_settings_normalise_a_grid_and_learn_its_small_numbers():
    agent = retain.PPO(lambda: gym.wrappers.TimeLimit(Grid(), 8), num_steps=128, seed=1)
    assert agent.config.normalise_obs is True
    agent.learn(12_288)
    assert agent.evaluate(20).return_mean > 7.5  # a guess gets 2.7 of 8, and so does one of 255
